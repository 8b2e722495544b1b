//! The demo's page.

use weightspace::report::{
    Axis, Chart, Column, Level, Part, Report, Scale, Section, Series, Table, Unit,
};

use super::population::Population;
use super::results::{Original, Results, percent};
use crate::cli::text;

/// The results as a page.
pub fn page(results: &Results) -> Report {
    let Original { arch, data, parameters, bytes, accuracy, .. } = &results.original;
    let parameters = text::grouped(*parameters as u64);
    Report {
        title: format!("{} in fewer bytes", arch.split(':').next().unwrap_or_default()),
        lead: format!(
            "{arch} has {parameters} parameters, {} as a file. It was trained on {data} and reads {} of \
             the test images right. These are the sizes and accuracies of its compressed files.",
            text::bytes(*bytes),
            percent(*accuracy),
        ),
        facts: facts(results),
        sections: sections(results),
    }
}

fn sections(results: &Results) -> Vec<Section> {
    let curves = Section {
        title: "Accuracy against size".into(),
        text: "Sizes are those of whole files. Further up and further left is better.".into(),
        parts: vec![Part::Chart(chart(results))],
    };
    let files = Section {
        title: "Files".into(),
        text: format!(
            "Every file is what \"weightspace compress {} {} -o FILE --method METHOD\" makes with \
             the settings given; those of the method subspace are what \"weightspace train \
             --arch {} {} {} -o FOLDER\" trains. Verified files were decoded, fit the architecture, \
             and, if they were made from the original, state its checksum.",
            results.original.file,
            results.original.compress_options(),
            results.original.arch,
            results.original.compress_options(),
            super::SUBSPACE_RECIPE,
        ),
        parts: vec![Part::Table(table(results))],
    };
    let population = results.population.iter().flat_map(Population::sections);
    [curves, files].into_iter().chain(population).collect()
}

fn facts(results: &Results) -> Vec<(String, String)> {
    let Original { epochs, seconds, test_images, .. } = &results.original;
    let facts = [
        (
            "command",
            format!(
                "weightspace demo{} --seed {} --threads {}",
                if results.population.is_some() { " --full" } else { "" },
                results.seed,
                results.threads
            ),
        ),
        ("version", results.version.to_owned()),
        ("instruction set", results.instruction_set.clone()),
        ("training", format!("{epochs} epochs in {seconds:.1} s")),
        ("test images", text::grouped(*test_images as u64)),
        ("time in all", format!("{:.1} s", results.seconds)),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

fn chart(results: &Results) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    for point in &results.points {
        if series.last().is_none_or(|last| last.name != point.curve) {
            series.push(Series { name: point.curve.to_owned(), points: Vec::new() });
        }
        let values = (point.bytes as f64, point.accuracy);
        series.last_mut().expect("pushed before").points.push(values);
    }
    Chart {
        name: "Accuracy of the compressed files against their size".into(),
        x: Axis { label: "size of the file".into(), scale: Scale::Logarithmic, unit: Unit::Bytes },
        y: Axis { label: "test accuracy".into(), scale: Scale::Linear, unit: Unit::Percent },
        series,
        levels: vec![Level {
            name: format!("original, {}", percent(results.original.accuracy)),
            y: results.original.accuracy,
        }],
        ..Chart::default()
    }
}

fn table(results: &Results) -> Table {
    let rows = results.points.iter().map(|point| {
        let [method, settings, bytes, ratio, accuracy, verified] = point.cells();
        vec![point.file.clone(), method, settings, bytes, ratio, accuracy, verified]
    });
    Table {
        columns: vec![
            Column::text("file"),
            Column::text("method"),
            Column::text("settings"),
            Column::number("bytes"),
            Column::number("smaller"),
            Column::number("accuracy"),
            Column::text("verified"),
        ],
        rows: rows.collect(),
    }
}
