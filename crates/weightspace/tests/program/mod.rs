//! The program as its users run it.
#![allow(dead_code, reason = "every test program uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The images of [`cnn`].
pub const IMAGES: &str = "--data digits --preprocessing unit-pad28";

/// A file that the repository has for tests.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// A CNN for the digits padded to 28x28; PyTorch gets 338 of 360 right.
pub fn cnn() -> PathBuf {
    golden("models/digits-cnn.pt")
}

/// The program, which does not see the data of those who test.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weightspace"));
    command.env_remove("WEIGHTSPACE_DATA");
    command
}

/// How a run ended.
pub struct Ending {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ending {
    fn from(output: Output) -> Ending {
        Ending {
            code: output.status.code().expect("an exit code"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ending {
    /// The one JSON document on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

/// Runs the program with the words of `line`, in which `{}` stand for `paths`.
pub fn run(line: &str, paths: &[&Path]) -> Ending {
    let mut paths = paths.iter();
    let mut command = program();
    for word in line.split_whitespace() {
        match word {
            "{}" => command.arg(paths.next().expect("a path for every {}")),
            word => command.arg(word),
        };
    }
    command.output().unwrap().into()
}

/// As [`run`], for what must succeed without a word on stderr.
pub fn done(line: &str, paths: &[&Path]) -> Ending {
    let ending = run(line, paths);
    assert_eq!((ending.code, ending.stderr.as_str()), (0, ""), "{line}");
    ending
}

/// Waits for something that a running program does, for a minute at most.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waiting for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal, as `kill` names it.
pub fn signal(child: &Child, name: &str) {
    Command::new("kill").arg(name).arg(child.id().to_string()).status().unwrap();
}

/// Presses Ctrl-C, and waits for the end that it must have.
pub fn interrupt(child: Child) -> Ending {
    signal(&child, "-INT");
    let ending = Ending::from(child.wait_with_output().unwrap());
    assert_eq!(ending.code, 130, "{}", ending.stderr);
    ending
}
