//! `weightspace zoo stats`: a zoo in numbers and pictures.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use weightspace::report::{Chart, Part, Report, Section};
use weightspace::zoo::epochs;
use weightspace::zoo::stats::{Distribution, Stats as Statistics, Summary};
use weightspace_core::AtomicFile;

use super::super::progress::Bar;
use super::super::table::{Align, Table};
use super::super::{Global, output, text};

/// Say what the models of a zoo are like, and draw accuracies and norms
#[derive(Args)]
pub struct Stats {
    /// Packed file, or folder of models or checkpoints
    zoo: PathBuf,
    /// Folder for the pictures (SVG, PNG) and a page with them (zoo.html); files in it are replaced
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Stats, global: &Global) -> anyhow::Result<()> {
    let population = super::open(&arguments.zoo, global)?;
    let bar = Bar::new(global);
    let stats =
        Statistics::collect(&population, &|phase, done, total| bar.report(phase, done, total))?;
    drop(bar);
    let summary = stats.summary();
    if let Some(folder) = &arguments.output {
        output::make_folder(folder, true)?;
        write_pictures(folder, &arguments.zoo, &summary, stats.charts())?;
    }
    global.print(&summary, |out| write_summary(&summary, out))
}

fn write_pictures(
    folder: &Path,
    zoo: &Path,
    summary: &Summary,
    charts: Vec<(String, Chart)>,
) -> anyhow::Result<()> {
    for (name, chart) in &charts {
        write(&folder.join(format!("{name}.svg")), chart.to_svg_file()?.as_bytes())?;
        write(&folder.join(format!("{name}.png")), &chart.to_png()?)?;
    }
    let section = |(_, chart): (String, Chart)| Section {
        title: chart.name.clone(),
        text: String::new(),
        parts: vec![Part::Chart(chart)],
    };
    let mut facts = vec![
        ("models".to_owned(), text::grouped(summary.models as u64)),
        ("epochs with weights".to_owned(), epochs::ranges(&summary.epochs)),
    ];
    facts
        .extend(summary.parameters.map(|n| ("weights of a model".into(), text::grouped(n as u64))));
    let page = Report {
        title: zoo.file_name().unwrap_or(zoo.as_os_str()).to_string_lossy().into_owned(),
        lead: format!("A model zoo; accuracies are those of the {} images.", summary.accuracy_of),
        facts,
        sections: charts.into_iter().map(section).collect(),
    };
    write(&folder.join("zoo.html"), page.to_html()?.as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    AtomicFile::write_bytes(path, bytes).with_context(|| path.display().to_string())
}

fn write_summary(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let right = |title| (title, Align::Right);
    let columns = |first| {
        let titles = ["models", "mean", "deviation", "least", "10 %", "median", "90 %", "most"];
        let mut header = [(first, Align::Left); 9];
        header[1..].copy_from_slice(&titles.map(right));
        header
    };
    let models = text::grouped(summary.models as u64);
    let finite = text::grouped(summary.finite as u64);
    writeln!(
        out,
        "{models} models, {finite} with finite weights; epochs {}",
        epochs::ranges(&summary.epochs)
    )?;
    if let Some(parameters) = summary.parameters {
        writeln!(out, "{} weights each", text::grouped(parameters as u64))?;
    }
    writeln!(out, "\nat the end of training:")?;
    let mut table = Table::new(columns(""));
    let accuracy = format!("{} accuracy", summary.accuracy_of);
    table.push(row(&accuracy, &summary.accuracy, percent));
    table.push(row("generalisation gap", &summary.generalisation_gap, percent));
    table.push(row("norm of the weights", &summary.last_norm, number));
    table.push(row("norm at the first epoch", &summary.first_norm, number));
    table.write(out, "  ")?;
    for axis in &summary.axes {
        writeln!(out, "\n{accuracy} by {}:", axis.axis.replace('_', " "))?;
        let mut table = Table::new(columns(""));
        for (value, distribution) in &axis.values {
            table.push(row(&text::printable(value), distribution, percent));
        }
        table.write(out, "  ")?;
    }
    Ok(())
}

fn row(name: &str, of: &Option<Distribution>, form: fn(f64) -> String) -> [String; 9] {
    let Some(d) = of else {
        let mut cells = [const { String::new() }; 9];
        cells[0] = name.to_owned();
        cells[1] = "0".to_owned();
        return cells;
    };
    let [mean, deviation, least, lower, median, upper, most] =
        [d.mean, d.deviation, d.minimum, d.lower, d.median, d.upper, d.maximum].map(form);
    [
        name.to_owned(),
        text::grouped(d.count as u64),
        mean,
        deviation,
        least,
        lower,
        median,
        upper,
        most,
    ]
}

fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

fn number(value: f64) -> String {
    format!("{value:.3}")
}
