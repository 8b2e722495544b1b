//! Tables of embeddings: CSV, Parquet and NPZ.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use weightspace_core::AtomicFile;

use super::SaneError;
use super::embedding::Embedded;
use crate::columns::{optional, required};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text: `model,epoch,test_accuracy,generalisation_gap,z0,...,spread.<layer>,...`.
    Csv,
    /// The same columns.
    Parquet,
    /// NumPy arrays `model`, `epoch`, `test_accuracy`, `generalisation_gap`, `mean` [n, latent], `spread` [n, layers], and
    /// with all tokens `embedding` [n, tokens, latent].
    Npz,
}

impl Format {
    /// That of a file name, by its end.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "csv" => Some(Format::Csv),
            "parquet" => Some(Format::Parquet),
            "npz" => Some(Format::Npz),
            _ => None,
        }
    }
}

/// Writes a table, whole or not at all; `layers` are the names of the layers that spreads are of.
///
/// # Errors
/// What the system says.
pub fn write(
    path: &Path,
    format: Format,
    rows: &[Embedded],
    layers: &[String],
) -> Result<(), SaneError> {
    let refuse = |error: &dyn std::fmt::Display| SaneError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut file = AtomicFile::create(path).map_err(|error| refuse(&error))?;
    match format {
        Format::Csv => write_csv(&mut file, rows, layers).map_err(|error| refuse(&error))?,
        Format::Parquet => {
            write_parquet(&mut file, rows, layers).map_err(|error| refuse(&error))?
        }
        Format::Npz => write_npz(&mut file, rows).map_err(|error| refuse(&error))?,
    }
    file.commit().map_err(|error| refuse(&error))
}

fn latent(rows: &[Embedded]) -> usize {
    rows.first().map_or(0, |row| row.embedding.mean.len())
}

fn write_csv(file: impl Write, rows: &[Embedded], layers: &[String]) -> csv::Result<()> {
    let mut table = csv::Writer::from_writer(file);
    let names = ["model", "epoch", "test_accuracy", "generalisation_gap"].map(str::to_owned);
    let values = (0..latent(rows)).map(|i| format!("z{i}"));
    let spreads = layers.iter().map(|layer| format!("spread.{layer}"));
    table.write_record(names.into_iter().chain(values).chain(spreads))?;
    for row in rows {
        let text = |value: Option<f32>| value.map_or(String::new(), |value| value.to_string());
        let known = [text(row.test_accuracy), text(row.generalisation_gap)];
        let first = [row.model.clone(), row.epoch.to_string()].into_iter().chain(known);
        let numbers = row.embedding.mean.iter().chain(&row.embedding.spread);
        table.write_record(first.chain(numbers.map(f64::to_string)))?;
    }
    Ok(table.flush()?)
}

fn write_parquet(
    file: impl Write + Send,
    rows: &[Embedded],
    layers: &[String],
) -> ::parquet::errors::Result<()> {
    let mut schema = "message embeddings {
        required binary model (STRING); required int32 epoch (INTEGER(32, false));
        optional float test_accuracy; optional float generalisation_gap;"
        .to_owned();
    (0..latent(rows)).for_each(|i| schema += &format!(" required double z{i};"));
    for column in columns(layers) {
        schema += &format!(" required double {column};");
    }
    schema += "}";
    let schema = Arc::new(parse_message_type(&schema)?);
    let properties = Arc::new(WriterProperties::default());
    let mut writer = SerializedFileWriter::new(file, schema, properties)?;
    let mut group = writer.next_row_group()?;
    let name = |row: &Embedded| ByteArray::from(row.model.as_str());
    required::<ByteArrayType, _, _>(&mut group, rows, name)?;
    required::<Int32Type, _, _>(&mut group, rows, |row| row.epoch.cast_signed())?;
    optional::<FloatType, _, _>(&mut group, rows, |row| row.test_accuracy)?;
    optional::<FloatType, _, _>(&mut group, rows, |row| row.generalisation_gap)?;
    for i in 0..latent(rows) {
        required::<DoubleType, _, _>(&mut group, rows, |row| row.embedding.mean[i])?;
    }
    for i in 0..layers.len() {
        required::<DoubleType, _, _>(&mut group, rows, |row| row.embedding.spread[i])?;
    }
    group.close()?;
    writer.close()?;
    Ok(())
}

/// Names of columns for the spreads of layers: those may hold what the schema's grammar does not know, and readers want every
/// name once.
fn columns(layers: &[String]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for layer in layers {
        let name = layer.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let name = format!("spread_{name}");
        let numbered = (2..).map(|n| format!("{name}_{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|n| !columns.contains(n));
        columns.extend(free);
    }
    columns
}

fn write_npz(file: impl Write, rows: &[Embedded]) -> Result<(), rawzip::Error> {
    let mut archive = rawzip::ZipArchiveWriter::new(file);
    let mut add = |name: &str, dtype: &str, shape: &[usize], data: &[u8]| {
        let (mut entry, config) = archive.new_file(format!("{name}.npy")).start()?;
        let mut writer = config.wrap(&mut entry);
        writer.write_all(&npy_header(dtype, shape))?;
        writer.write_all(data)?;
        let (_, descriptor) = writer.finish()?;
        entry.finish(descriptor)?;
        Ok::<_, rawzip::Error>(())
    };
    let count = rows.len();
    let longest = rows.iter().map(|row| row.model.chars().count()).max().unwrap_or(0).max(1);
    let names: Vec<u8> = rows.iter().flat_map(|row| unicode(&row.model, longest)).collect();
    add("model", &format!("<U{longest}"), &[count], &names)?;
    let epochs: Vec<u8> = rows.iter().flat_map(|row| row.epoch.to_le_bytes()).collect();
    add("epoch", "<u4", &[count], &epochs)?;
    let known = |of: fn(&Embedded) -> Option<f32>| -> Vec<u8> {
        rows.iter().flat_map(|row| of(row).unwrap_or(f32::NAN).to_le_bytes()).collect()
    };
    add("test_accuracy", "<f4", &[count], &known(|row| row.test_accuracy))?;
    add("generalisation_gap", "<f4", &[count], &known(|row| row.generalisation_gap))?;
    let doubles = |of: fn(&Embedded) -> &[f64]| -> Vec<u8> {
        rows.iter().flat_map(|row| of(row).iter().flat_map(|v| v.to_le_bytes())).collect()
    };
    let layers = rows.first().map_or(0, |row| row.embedding.spread.len());
    add("mean", "<f8", &[count, latent(rows)], &doubles(|row| &row.embedding.mean))?;
    add("spread", "<f8", &[count, layers], &doubles(|row| &row.embedding.spread))?;
    let values = rows.first().map_or(0, |row| row.embedding.values.len());
    if values > 0 {
        let shape = [count, values / latent(rows), latent(rows)];
        let all = rows.iter().flat_map(|row| &row.embedding.values);
        let all: Vec<u8> = all.flat_map(|value| value.to_le_bytes()).collect();
        add("embedding", "<f4", &shape, &all)?;
    }
    archive.finish()?;
    Ok(())
}

/// A name of so many characters as NumPy holds it.
fn unicode(name: &str, len: usize) -> impl Iterator<Item = u8> + '_ {
    let fill = std::iter::repeat('\0');
    name.chars().chain(fill).take(len).flat_map(|c| u32::from(c).to_le_bytes())
}

/// What stands before the data of an array: version 1.0, ending at a multiple of 64 bytes.
fn npy_header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({dims}), }}");
    let unpadded = 10 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.into_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_different_names() {
        let layers = ["a.b", "a_b", "c", "a/b"].map(str::to_owned);
        let expected = ["spread_a_b", "spread_a_b_2", "spread_c", "spread_a_b_3"];
        assert_eq!(columns(&layers), expected);
    }
}
