//! `weightspace diff`: how two models differ, tensor by tensor.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use weightspace_core::WspFile;

use super::compare::{Comparison, TensorComparison, compare};
use super::decoding::DecodeArgs;
use super::model::Model;
use super::table::{Align, Table};
use super::{Global, Outcome, text};

/// Compare two models tensor by tensor; exit code 1 if they differ
#[derive(Args)]
pub struct Diff {
    /// Checkpoint or .wsp file
    a: PathBuf,
    /// Checkpoint or .wsp file
    b: PathBuf,
    #[command(flatten)]
    decoding: DecodeArgs,
}

/// Runs the command.
pub fn run(arguments: &Diff, global: &Global) -> anyhow::Result<Outcome> {
    let Diff { a, b, decoding } = arguments;
    // What a .wsp file needs is of no use to a checkpoint.
    let open = |path: &Path| match WspFile::is_wsp(path) {
        true => Model::open_with(path, decoding),
        false => Model::open(path),
    };
    let comparison = compare(&open(a)?, &open(b)?)?;
    global.print(&comparison, |out| write(&comparison, out))?;
    Ok(Outcome::of_check(comparison.identical))
}

fn write(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let right = |title| (title, Align::Right);
    let mut table = Table::new([
        ("tensor", Align::Left),
        ("shape", Align::Left),
        right("norm of A"),
        right("norm of B"),
        right("cosine"),
        right("largest difference"),
    ]);
    comparison.tensors.iter().for_each(|tensor| table.push(row(tensor)));
    table.write(out, "")?;
    for (names, side) in [(&comparison.only_in_a, "A"), (&comparison.only_in_b, "B")] {
        for name in names {
            writeln!(out, "only in {side}: {}", text::printable(name))?;
        }
    }
    let different = comparison.tensors.iter().filter(|tensor| !tensor.identical).count();
    match comparison.max_abs {
        _ if comparison.identical => {
            writeln!(out, "identical: {} tensors", comparison.tensors.len())
        }
        Some(max_abs) => writeln!(
            out,
            "{different} of {} common tensors differ, the largest difference is {max_abs:.6e} in {}",
            comparison.tensors.len(),
            text::printable(comparison.most_different.as_deref().unwrap_or_default())
        ),
        None => writeln!(out, "different: no tensor can be compared"),
    }
}

fn row(tensor: &TensorComparison) -> [String; 6] {
    let pair = |a: String, b: Option<String>| b.map_or(a.clone(), |b| format!("{a} / {b}"));
    let other_shape = tensor.other_shape.as_deref().map(text::shape);
    let dtypes = pair(tensor.dtype.to_owned(), tensor.other_dtype.map(str::to_owned));
    let shape = format!("{} {dtypes}", pair(text::shape(&tensor.shape), other_shape));
    let name = text::printable(&tensor.name);
    let Some(m) = tensor.measures else {
        let dash = || "-".to_owned();
        return [name, shape, dash(), dash(), dash(), dash()];
    };
    let cosine = m.cosine.map_or("-".to_owned(), |cosine| format!("{cosine:.6}"));
    let difference = match tensor.identical {
        true => "identical".to_owned(),
        false => format!("{:.6e}", m.max_abs),
    };
    [name, shape, norm(m.norm_a), norm(m.norm_b), cosine, difference]
}

/// A norm with six digits after the point, or with an exponent where these would say nothing.
fn norm(norm: f64) -> String {
    match norm == 0.0 || (1e-3..1e9).contains(&norm) {
        true => format!("{norm:.6}"),
        false => format!("{norm:.6e}"),
    }
}
