//! The index as CSV and Parquet, and statistics.

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use weightspace::zoo::Population;
use weightspace::zoo::index::{write_csv, write_parquet};
use weightspace::zoo::stats::Stats;

use crate::fixtures::{NAMES, published, silent, small_zoo};

/// A cell of a CSV, and of Parquet, in one form.
fn cell(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::UInt(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        Field::Float(value) => value.to_string(),
        Field::Double(value) => value.to_string(),
        other => panic!("{other:?}"),
    }
}

fn number(text: &str) -> Result<f64, &str> {
    text.parse().map_err(|_| text)
}

#[test]
fn both_tables_hold_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = Population::open(&published()).unwrap();
    let (csv, parquet) = (folder.path().join("zoo.csv"), folder.path().join("zoo.parquet"));
    assert_eq!(write_csv(&zoo, &csv, &silent).unwrap(), 9);
    assert_eq!(write_parquet(&zoo, &parquet, &silent).unwrap(), 9);
    let mut table = csv::Reader::from_path(&csv).unwrap();
    let header = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let reader = SerializedFileReader::try_from(parquet.as_path()).unwrap();
    let mut count = 0;
    for (row, other) in reader.get_row_iter(None).unwrap().zip(&rows) {
        let row = row.unwrap();
        let names: Vec<&String> = row.get_column_iter().map(|(name, _)| name).collect();
        assert!(header.iter().eq(names));
        let cells: Vec<String> = row.get_column_iter().map(|(_, field)| cell(field)).collect();
        assert!(
            cells.iter().map(|c| number(c)).eq(other.iter().map(number)),
            "{cells:?} {other:?}"
        );
        count += 1;
    }
    assert_eq!((count, rows.len()), (9, 9));
    let get = |row: usize, name: &str| {
        rows[row].get(header.iter().position(|column| column == name).unwrap()).unwrap()
    };
    assert_eq!((get(5, "model"), get(5, "epoch")), (NAMES[1], "3"));
    assert_eq!((get(5, "arch"), get(5, "activation")), ("mlp:4-3-2", "relu"));
    assert_eq!((get(5, "initialisation"), get(5, "seed")), ("kaiming-uniform", "2"));
    assert_eq!((get(3, "train_loss"), get(3, "validation_loss")), ("", ""));
    assert!((get(5, "generalisation_gap").parse::<f32>().unwrap() - 0.14).abs() < 1e-6);
}

#[test]
fn statistics_are_those_of_the_models() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = small_zoo(&folder.path().join("zoo"), 70, &[3]);
    let stats = Stats::collect(&zoo, &silent).unwrap();
    let summary = stats.summary();
    assert_eq!((summary.models, summary.finite, summary.parameters), (70, 69, Some(3)));
    assert_eq!((summary.epochs.as_slice(), summary.accuracy_of), (&[0, 5][..], "test"));
    let accuracy = summary.accuracy.unwrap();
    assert_eq!(accuracy.count, 70);
    assert!((accuracy.median - 0.53).abs() < 1e-6 && (accuracy.maximum - 0.56).abs() < 1e-6);
    assert!((summary.generalisation_gap.unwrap().maximum - 0.4).abs() < 1e-6);
    assert!((summary.first_norm.unwrap().minimum - 1.0).abs() < 1e-6);
    assert_eq!(summary.last_norm.unwrap().count, 69);
    let [axis] = &summary.axes[..] else { panic!("{:?}", summary.axes) };
    assert_eq!(axis.axis, "learning_rate");
    let values: Vec<_> = axis.values.iter().map(|(v, d)| (v.as_str(), d.unwrap().count)).collect();
    assert_eq!(values, [("0.01", 35), ("0.1", 35)]);
    let charts = stats.charts();
    let names: Vec<&str> = charts.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "accuracy",
        "accuracy-by-learning-rate",
        "accuracy-distribution",
        "gap-distribution",
        "norm-distribution",
    ];
    assert_eq!(names, expected);
    charts.iter().for_each(|(_, chart)| assert!(chart.to_svg().unwrap().contains("</svg>")));
}
