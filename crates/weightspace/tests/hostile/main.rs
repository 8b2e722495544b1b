//! Hostile and damaged input, given to the program itself: every case ends in exit code 2 and one
//! line on stderr that names the file, soon, in little memory, and leaves nothing behind.

mod archives;
mod headers;
mod models;
mod paths;
mod pickles;
mod wsp;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Nothing takes a second on an idle machine; this one may be busy.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Address space in kibibytes, of which a mapped file and the program itself take a part.
const ADDRESS_SPACE: usize = 300 << 10;

/// What is put before the program.
pub enum Input {
    /// A file of these bytes.
    Bytes(Vec<u8>),
    /// A folder of these files.
    Folder(Vec<(&'static str, Vec<u8>)>),
    /// What is there already, or not.
    Path(PathBuf),
    /// Whatever this makes at the path that it is given.
    Made(fn(&Path)),
}

/// One run of the program.
pub struct Case {
    what: String,
    input: Input,
    /// Arguments, in which `IN` is the input and `OUT` a file that must not be written.
    arguments: String,
}

impl Case {
    /// A run of the program with these arguments.
    pub fn new(what: impl Into<String>, input: Input, arguments: impl Into<String>) -> Self {
        Case { what: what.into(), input, arguments: arguments.into() }
    }
}

/// Commands that read the header of a checkpoint or `.wsp` file.
pub const OPENING: [&str; 5] = [
    "inspect IN",
    "compress IN -o OUT",
    "eval IN --data digits",
    "diff IN GOOD",
    "inspect IN --json",
];
/// Commands that read all tensors of it.
pub const READING: [&str; 3] = ["compress IN -o OUT", "diff IN IN", "compress IN -o OUT --json"];

/// One case for each input; the commands take turns.
pub fn cases(commands: &[&str], inputs: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<Case> {
    let turns = commands.iter().cycle();
    let case = |((what, bytes), command): ((String, Vec<u8>), &&str)| {
        Case::new(what, Input::Bytes(bytes), *command)
    };
    inputs.into_iter().zip(turns).map(case).collect()
}

/// A file that the repository holds.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// How a run ended.
struct Ending {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    /// Files beside the input.
    left_behind: BTreeSet<OsString>,
}

fn run(case: &Case) -> Result<Ending, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut input = folder.path().join("hostile");
    match &case.input {
        Input::Bytes(bytes) => fs::write(&input, bytes).unwrap(),
        Input::Folder(files) => {
            fs::create_dir(&input).unwrap();
            files.iter().for_each(|(name, bytes)| fs::write(input.join(name), bytes).unwrap());
        }
        Input::Path(path) => input = path.clone(),
        Input::Made(make) => make(&input),
    }
    let argument = |word: &str| match word {
        "IN" => input.clone().into_os_string(),
        "OUT" => folder.path().join("out").into_os_string(),
        "GOOD" => golden("models/digits-cnn.pt").into_os_string(),
        word => OsString::from(word),
    };
    let (code, stdout, stderr) =
        run_limited(case.arguments.split(' ').map(argument).collect(), folder.path())?;
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left_behind = entries.filter(|name| name != "hostile").collect();
    Ok(Ending { code, stdout, stderr, left_behind })
}

/// Runs the program with limits of time and memory.
fn run_limited(
    arguments: Vec<OsString>,
    folder: &Path,
) -> Result<(Option<i32>, String, String), String> {
    let program = env!("CARGO_BIN_EXE_weightspace");
    let mut command = if cfg!(target_os = "linux") {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -v {ADDRESS_SPACE} && exec \"$0\" \"$@\"");
        shell.args(["-c", script.as_str(), program]);
        shell
    } else {
        Command::new(program)
    };
    command.args(["--threads", "2"]).args(arguments).current_dir(folder);
    command.env_remove("WEIGHTSPACE_DATA").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > TIME_LIMIT => {
                let _ = child.kill();
                return Err(format!("no answer within {TIME_LIMIT:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    // What is said is little enough for the pipe; an endless talker has run out of time.
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status.code(), text(stdout), text(stderr)))
}

/// What is wrong with the way a hostile case ended.
fn complaint(case: &Case) -> Option<String> {
    let ending = match run(case) {
        Ok(ending) => ending,
        Err(error) => return Some(error),
    };
    let line = ending.stderr.strip_suffix('\n').unwrap_or(&ending.stderr);
    let name = match &case.input {
        Input::Path(path) => path.to_str().unwrap(),
        _ => "hostile",
    };
    let problem = match () {
        () if ending.code != Some(2) => format!("exit code {:?}", ending.code),
        () if line.contains(char::is_control) => "more than one printable line".to_owned(),
        () if !line.starts_with("error: ") => "no error".to_owned(),
        () if !line.contains(name) => "the file is not named".to_owned(),
        () if line.len() > 1500 => "a long message".to_owned(),
        () if !ending.stdout.is_empty() => format!("it prints {:?}", ending.stdout),
        () if !ending.left_behind.is_empty() => format!("it leaves {:?}", ending.left_behind),
        () => return None,
    };
    Some(format!("{problem}: {:?}", ending.stderr))
}

/// What is wrong with the way a case ended that need not be refused.
fn panics(case: &Case) -> Option<String> {
    match run(case) {
        Ok(Ending { code: Some(0..=2), .. }) => None,
        Ok(ending) => Some(format!("exit code {:?}: {:?}", ending.code, ending.stderr)),
        Err(error) => Some(error),
    }
}

/// Runs many cases at once; fails with everything that is wrong with any of them.
fn check_all(cases: &[Case], complaint: fn(&Case) -> Option<String>) {
    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(complaint) = complaint(case) {
                let complaint = format!("{} [{}]: {complaint}", case.what, case.arguments);
                complaints.lock().unwrap().push(complaint);
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from) + 2;
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let complaints = complaints.into_inner().unwrap();
    assert!(
        complaints.is_empty(),
        "{} of {}:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
}

#[test]
fn hostile_input_is_refused_in_one_line() {
    let parts = [
        headers::hostile(),
        pickles::hostile(),
        archives::hostile(),
        wsp::hostile(),
        models::hostile(),
        paths::hostile(),
    ];
    let all: Vec<Case> = parts.into_iter().flatten().collect();
    assert!(all.len() >= 200, "only {} cases", all.len());
    check_all(&all, complaint);
}

#[test]
fn damage_that_checksums_hide_is_no_panic() {
    check_all(&wsp::flipped(), panics);
}

/// The commands of the other tests, on files that are well: they must not fail for another reason.
#[test]
fn sound_input_is_accepted() {
    let mlp = || Input::Bytes(fs::read(golden("models/digits-mlp.pt")).unwrap());
    let commands = OPENING.iter().chain(&READING).map(|command| Case::new("", mlp(), *command));
    let wsp =
        wsp::COMMANDS.iter().map(|command| Case::new("", Input::Bytes(wsp::sound()), *command));
    for case in commands.chain(wsp) {
        let ending = run(&case).unwrap();
        let expected =
            i32::from(case.arguments.starts_with("diff") && !case.arguments.ends_with("IN IN"));
        assert_eq!(ending.code, Some(expected), "{}: {}", case.arguments, ending.stderr);
        assert_eq!(ending.stderr, "", "{}", case.arguments);
    }
}
