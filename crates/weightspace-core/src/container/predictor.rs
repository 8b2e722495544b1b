//! The PREDICTOR section: how inner tensors stand for the predicted ones.

use std::ops::Range;

use super::bytes::{Cursor, put_varint};
use super::error::{Reason, refuse};
use super::table::{Entry, Storage};
use super::{limits, raw};
use crate::predictor::{
    self, AXES, CoordinateScale, Encoding, Grid, LAYERS, Order, OrderKind, PredictorError, Tiling,
};
use crate::tensor::DType;
use crate::text::quoted;

/// What an order's byte has besides if the tensor has a mask.
const MASKED: u8 = 16;

impl From<PredictorError> for Reason {
    fn from(error: PredictorError) -> Self {
        Reason(error.to_string())
    }
}

/// How the predicted tensors of a file to be written are made from its inner tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// How positions become coordinates.
    pub coordinates: CoordinateScale,
    /// How coordinates become features.
    pub encoding: Encoding,
    /// The predicted tensors in the order of the file.
    pub tensors: Vec<PredictedTensor>,
}

/// One tensor of [`Predicted`].
#[derive(Clone, Debug, PartialEq)]
pub struct PredictedTensor {
    /// Elements of a tile.
    pub tile: usize,
    /// Which coordinates each tile gets.
    pub order: Order,
    /// What the predictor's outputs are multiplied by; positive and finite.
    pub scale: f32,
    /// True if an inner tensor of the same shape multiplies the elements.
    pub masked: bool,
}

/// What a file says of its predictor.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictorInfo {
    /// How positions become coordinates.
    pub coordinates: CoordinateScale,
    /// How coordinates become features.
    pub encoding: Encoding,
    /// Inputs of the first layer (0 of [`Encoding::DirectTables`]), then outputs of each.
    pub widths: Vec<usize>,
    /// Number of inner tensors: tables, weights and biases, masks.
    pub inner: usize,
    /// The predicted tensors in the order of the file.
    pub tensors: Vec<PredictedInfo>,
}

/// One tensor of a [`PredictorInfo`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictedInfo {
    /// Elements of a tile.
    pub tile: usize,
    /// Kind of the permutations.
    pub order: OrderKind,
    /// What the predictor's outputs are multiplied by.
    pub scale: f32,
    /// True if the tensor has a mask.
    pub masked: bool,
}

impl Predicted {
    /// As a file with `inner` inner tensors says it; widths are to be found.
    pub(super) fn info(&self, inner: usize) -> PredictorInfo {
        let tensors = self.tensors.iter().map(|tensor| PredictedInfo {
            tile: tensor.tile,
            order: tensor.order.kind(),
            scale: tensor.scale,
            masked: tensor.masked,
        });
        PredictorInfo {
            coordinates: self.coordinates,
            encoding: self.encoding,
            widths: Vec::new(),
            inner,
            tensors: tensors.collect(),
        }
    }
}

/// Positions in the table of the inner tensors, which are its last.
pub(crate) struct InnerTensors {
    /// One for each axis, or none.
    pub tables: Range<usize>,
    /// Weight and bias of each layer, of the first layer of direct tables only the bias.
    pub layers: Range<usize>,
    /// One for each masked tensor.
    pub masks: Range<usize>,
}

impl PredictorInfo {
    /// Where the inner tensors of a table of `count` entries are; `None` if they are too few.
    pub(crate) fn inner_tensors(&self, count: usize) -> Option<InnerTensors> {
        let first = count.checked_sub(self.inner)?;
        let tables = first..first + if self.encoding.is_stored() { AXES.len() } else { 0 };
        let masks = self.tensors.iter().filter(|tensor| tensor.masked).count();
        let layers = tables.end..count.checked_sub(masks)?;
        let masks = layers.end..count;
        (layers.start <= layers.end).then_some(InnerTensors { tables, layers, masks })
    }

    /// The tilings of the predicted tensors among `entries`, with the kinds of their orders.
    pub(crate) fn tilings<'a>(
        &'a self,
        entries: &'a [Entry],
    ) -> impl Iterator<Item = (Tiling, OrderKind)> {
        let shapes = predicted(entries).map(|entry| entry.info.shape.clone());
        let tensors = self.tensors.iter().zip(shapes);
        tensors.map(|(tensor, shape)| (Tiling { shape, tile: tensor.tile }, tensor.order))
    }
}

fn predicted(entries: &[Entry]) -> impl Iterator<Item = &Entry> + Clone {
    entries.iter().filter(|entry| entry.storage == Storage::Predicted)
}

/// The content of the section.
pub(super) fn encode(info: &PredictorInfo) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, info.inner as u64);
    out.push(info.coordinates as u8);
    match info.encoding {
        Encoding::Positional { levels, base } => {
            out.push(0);
            put_varint(&mut out, levels.into());
            out.extend_from_slice(&base.to_le_bytes());
        }
        Encoding::Chebyshev { degree } => {
            out.push(1);
            put_varint(&mut out, degree.into());
        }
        Encoding::Tables { width } => {
            out.push(2);
            put_varint(&mut out, width.into());
        }
        Encoding::DirectTables => out.push(3),
    }
    for tensor in &info.tensors {
        out.push(tensor.order as u8 | if tensor.masked { MASKED } else { 0 });
    }
    for tensor in &info.tensors {
        put_varint(&mut out, tensor.tile as u64);
    }
    for plane in 0..4 {
        out.extend(info.tensors.iter().map(|tensor| tensor.scale.to_le_bytes()[plane]));
    }
    raw::deflate(&out)
}

/// What the content of a section says, which agrees with itself and with the table.
pub(super) fn decode(content: &[u8], entries: &[Entry]) -> Result<PredictorInfo, Reason> {
    let bytes = raw::inflate(content, limits::TABLE_BYTES, "the predictor")?;
    let mut cursor = Cursor::new(&bytes);
    let inner = cursor.varint_up_to(entries.len() as u64, "the number of inner tensors")?;
    let code = cursor.byte("the scale of the coordinates")?;
    let Some(&coordinates) = CoordinateScale::ALL.get(usize::from(code)) else {
        return refuse!("unknown scale {code} of the coordinates");
    };
    let encoding = take_encoding(&mut cursor)?;
    let count = predicted(entries).count();
    let mut tensors = Vec::with_capacity(count);
    for &code in cursor.take(count, "the column of orders")? {
        let Some(&order) = OrderKind::ALL.get(usize::from(code & !MASKED)) else {
            return refuse!("unknown order {code} of a predicted tensor");
        };
        let masked = code & MASKED != 0;
        tensors.push(PredictedInfo { tile: 0, order, scale: 0.0, masked });
    }
    for tensor in &mut tensors {
        tensor.tile = cursor.varint_up_to(predictor::WIDTH as u64, "the elements of a tile")?;
    }
    let scales = cursor.take(4 * count, "the column of scales")?;
    for (index, tensor) in tensors.iter_mut().enumerate() {
        tensor.scale = f32::from_le_bytes(std::array::from_fn(|p| scales[p * count + index]));
    }
    if cursor.remaining() > 0 {
        return refuse!("{} bytes follow the scales of the predictor", cursor.remaining());
    }
    let mut info = PredictorInfo { coordinates, encoding, widths: Vec::new(), inner, tensors };
    info.widths = check(&info, entries)?;
    Ok(info)
}

fn take_encoding(cursor: &mut Cursor) -> Result<Encoding, Reason> {
    let code = cursor.byte("the encoding")?;
    let mut number = |what| {
        let number = cursor.varint_up_to(predictor::WIDTH as u64, what)?;
        Ok::<_, Reason>(number as u32)
    };
    Ok(match code {
        0 => {
            let levels = number("the levels of the encoding")?;
            let base = f64::from_le_bytes(cursor.array("the base of the encoding")?);
            Encoding::Positional { levels, base }
        }
        1 => Encoding::Chebyshev { degree: number("the degree of the encoding")? },
        2 => Encoding::Tables { width: number("the width of the tables")? },
        3 => Encoding::DirectTables,
        unknown => return refuse!("unknown encoding {unknown}"),
    })
}

/// Refuses a predictor beyond the limits, or that contradicts itself or the table; returns the widths of
/// its layers.
pub(super) fn check(info: &PredictorInfo, entries: &[Entry]) -> Result<Vec<usize>, Reason> {
    let count = predicted(entries).count();
    if count != info.tensors.len() || count == 0 {
        return refuse!("{count} predicted tensors, the predictor has {}", info.tensors.len());
    }
    if let Some(tensor) = info.tensors.iter().find(|t| !(t.scale > 0.0 && t.scale.is_finite())) {
        return refuse!("the scale {} of a tensor is not positive and finite", tensor.scale);
    }
    let Some(inner) = info.inner_tensors(entries.len()) else {
        return refuse!("{} inner tensors are too few for the predictor", info.inner);
    };
    for (index, entry) in entries.iter().enumerate().skip(inner.tables.start) {
        check_stored(entry, inner.masks.contains(&index))?;
    }
    let tilings: Vec<_> = info.tilings(entries).collect();
    for (tiling, order) in &tilings {
        if *order == OrderKind::InFilter && tiling.tile >= tiling.columns() {
            return refuse!("an order within filters of {:?}, of one tile each", tiling.shape);
        }
    }
    let tensors = tilings.into_iter().map(|(tiling, _)| (tiling, Order::Identity)).collect();
    let grid = Grid::new(tensors, info.coordinates)?;
    info.encoding.check(info.coordinates)?;
    let shapes = layer_shapes(info, &entries[inner.layers])?;
    predictor::check_layers(&grid, info.encoding, &shapes)?;
    for (axis, table) in entries[inner.tables].iter().enumerate() {
        let expected = [grid.values(axis).len(), info.encoding.width(shapes[0].1)];
        check_shape(table, &expected)?;
    }
    let masked = predicted(entries).zip(&info.tensors).filter(|(_, tensor)| tensor.masked);
    for (mask, (tensor, _)) in entries[inner.masks].iter().zip(masked) {
        check_shape(mask, &tensor.info.shape)?;
    }
    Ok(std::iter::once(shapes[0].0).chain(shapes.iter().map(|shape| shape.1)).collect())
}

/// Refuses an inner tensor that is not stored as it is, or of a type that does not fit.
fn check_stored(Entry { info, storage, .. }: &Entry, is_mask: bool) -> Result<(), Reason> {
    let name = quoted(&info.name);
    if !matches!(storage, Storage::Raw | Storage::Constant { .. } | Storage::Quantized { .. }) {
        return refuse!("{name}: an inner tensor that is not raw, constant or quantised");
    }
    match info.dtype {
        DType::F32 | DType::F16 | DType::BF16 => Ok(()),
        DType::Bool if is_mask => Ok(()),
        dtype => refuse!("{name}: an inner tensor of type {dtype}"),
    }
}

/// Inputs and outputs of each layer, from the entries of weights and biases.
fn layer_shapes(info: &PredictorInfo, entries: &[Entry]) -> Result<Vec<(usize, usize)>, Reason> {
    let mut rest = entries;
    let mut shapes = Vec::new();
    if info.encoding == Encoding::DirectTables
        && let [bias, others @ ..] = rest
    {
        check_shape(bias, &[bias.info.element_count()])?;
        shapes.push((0, bias.info.element_count()));
        rest = others;
    }
    let (pairs, odd) = rest.as_chunks::<2>();
    if !odd.is_empty() || shapes.len() + pairs.len() > LAYERS {
        return refuse!("{} inner tensors are no weights and biases of layers", entries.len());
    }
    for [weight, bias] in pairs {
        let &[outputs, inputs] = weight.info.shape.as_slice() else {
            return refuse!("{}: not the matrix of a layer", quoted(&weight.info.name));
        };
        check_shape(bias, &[outputs])?;
        shapes.push((inputs, outputs));
    }
    Ok(shapes)
}

fn check_shape(entry: &Entry, expected: &[usize]) -> Result<(), Reason> {
    match entry.info.shape == expected {
        true => Ok(()),
        false => {
            let found = &entry.info.shape;
            refuse!(
                "{}: an inner tensor {found:?}, expected {expected:?}",
                quoted(&entry.info.name)
            )
        }
    }
}
