//! The table of a zoo as Parquet.

use std::io::Write;
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type};
use ::parquet::errors::Result;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::index::Row;
use crate::columns::{optional, required};

const SCHEMA: &str = "message zoo {
    required binary model (STRING);
    required int32 epoch (INTEGER(32, false));
    optional binary arch (STRING);
    optional binary activation (STRING);
    optional binary initialisation (STRING);
    optional double dropout;
    optional binary optimizer (STRING);
    optional double learning_rate;
    optional double weight_decay;
    optional int64 seed (INTEGER(64, false));
    optional float train_loss;
    optional float train_accuracy;
    optional float validation_loss;
    optional float validation_accuracy;
    optional float test_loss;
    optional float test_accuracy;
    optional float generalisation_gap;
}";

/// Rows of a group, which are in memory together.
const GROUP: usize = 1 << 15;

/// A file being written.
pub(super) struct ParquetTable<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    rows: Vec<Row>,
}

impl<W: Write + Send> ParquetTable<W> {
    pub fn new(file: W) -> Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let writer =
            SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default()))?;
        Ok(ParquetTable { writer, rows: Vec::new() })
    }

    pub fn push(&mut self, rows: Vec<Row>) -> Result<()> {
        self.rows.extend(rows);
        if self.rows.len() >= GROUP { self.write_group() } else { Ok(()) }
    }

    /// Completes the file and gives it back.
    pub fn finish(mut self) -> Result<W> {
        self.write_group()?;
        self.writer.into_inner()
    }

    fn write_group(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = &self.rows;
        let mut group = self.writer.next_row_group()?;
        let text = |value: &Option<String>| value.as_deref().map(ByteArray::from);
        required::<ByteArrayType, _, W>(&mut group, rows, |row| row.model.as_str().into())?;
        required::<Int32Type, _, W>(&mut group, rows, |row| row.epoch.cast_signed())?;
        optional::<ByteArrayType, _, W>(&mut group, rows, |row| text(&row.arch))?;
        optional::<ByteArrayType, _, W>(&mut group, rows, |row| text(&row.activation))?;
        optional::<ByteArrayType, _, W>(&mut group, rows, |row| text(&row.initialisation))?;
        optional::<DoubleType, _, W>(&mut group, rows, |row| row.dropout)?;
        optional::<ByteArrayType, _, W>(&mut group, rows, |row| text(&row.optimizer))?;
        optional::<DoubleType, _, W>(&mut group, rows, |row| row.learning_rate)?;
        optional::<DoubleType, _, W>(&mut group, rows, |row| row.weight_decay)?;
        optional::<Int64Type, _, W>(&mut group, rows, |row| row.seed.map(u64::cast_signed))?;
        let metrics: [fn(&Row) -> Option<f32>; 7] = [
            |row| row.train_loss,
            |row| row.train_accuracy,
            |row| row.validation_loss,
            |row| row.validation_accuracy,
            |row| row.test_loss,
            |row| row.test_accuracy,
            |row| row.generalisation_gap,
        ];
        metrics.into_iter().try_for_each(|of| optional::<FloatType, _, W>(&mut group, rows, of))?;
        group.close()?;
        self.rows.clear();
        Ok(())
    }
}
