//! From a `.wsp` file to tensors: one after the other in bounded memory, or any rows of any of them.

mod expansion;
mod prediction;
mod product;
mod rows;
mod streams;

use std::collections::HashMap;
use std::ops::Range;

use crate::container::error::{Reason, refuse};
use crate::container::table::{Entry, Storage};
use crate::container::{WspError, WspFile};
use crate::predictor::{Order, Tiling};
use crate::random::Key;
use crate::state_dict::StateDict;
use crate::tensor::{Tensor, TensorInfo};
use crate::text::quoted;
use expansion::Expansion;
use prediction::Prediction;
use rows::StoredRows;
use streams::{RawBytes, Symbols};

/// What decoding a file may need beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecodeOptions<'a> {
    /// The base, for files that name one; others ignore it.
    pub base: Option<&'a StateDict>,
    /// The key, for files that do not hold theirs; others ignore it.
    pub key: Option<Key>,
    /// Use only so many bit planes of the coefficients, for coarser weights. More than there are, or
    /// `None`, is all that are there.
    pub planes: Option<usize>,
}

/// Decodes the tensors of a file. Its coefficients or its predictor, if it has such, are in memory; weights
/// are generated when they are asked for.
pub struct Decoder<'a> {
    file: &'a WspFile,
    base: Option<&'a StateDict>,
    expansion: Option<Expansion>,
    prediction: Option<Prediction>,
    stored: StoredRows<'a>,
    indices: HashMap<&'a str, usize>,
}

impl WspFile {
    /// A decoder of the file.
    ///
    /// # Errors
    /// `MissingBase`, `WrongBase` or `MissingKey` if the file needs a base or a key that is not
    /// among the options; `Malformed` if coefficients do not decode.
    pub fn decoder<'a>(&'a self, options: DecodeOptions<'a>) -> Result<Decoder<'a>, WspError> {
        Decoder::new(self, options)
    }

    /// Decodes all tensors in the order of the file and hands each over with its name. Beside the
    /// tensor at hand a few sections are in memory, as many as there are threads.
    ///
    /// # Errors
    /// As those of [`decoder`](Self::decoder) without options; `Malformed` if a section does not
    /// decode; or the first error that `consume` returns.
    pub fn decode_each<E: From<WspError>>(
        &self,
        consume: impl FnMut(&str, Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        self.decoder(DecodeOptions::default())?.decode_each(consume)
    }

    /// Decodes all tensors.
    ///
    /// # Errors
    /// As those of [`decode_each`](Self::decode_each).
    pub fn state_dict(&self) -> Result<StateDict, WspError> {
        self.decoder(DecodeOptions::default())?.state_dict()
    }
}

impl<'a> Decoder<'a> {
    fn new(file: &'a WspFile, options: DecodeOptions<'a>) -> Result<Self, WspError> {
        let mut decoder = Decoder {
            file,
            base: None,
            expansion: None,
            prediction: None,
            stored: StoredRows::new(file),
            indices: HashMap::with_capacity(file.tensors().len()),
        };
        let entries = file.entries().iter().enumerate().filter(|(_, entry)| !entry.inner);
        decoder.indices.extend(entries.map(|(index, entry)| (entry.info.name.as_str(), index)));
        if let Some(info) = file.predictor() {
            let prediction = Prediction::new(file, info, |index| decoder.whole(index));
            decoder.prediction = Some(prediction.map_err(|reason| reason.at(&file.path))?);
        }
        let Some(projected) = file.projection() else { return Ok(decoder) };
        let path = || file.path.clone();
        if let Some(hash) = projected.base_hash {
            let Some(base) = options.base else {
                return Err(WspError::MissingBase { path: path(), hash });
            };
            let found = base.content_hash();
            if found != hash {
                return Err(WspError::WrongBase { path: path(), expected: hash, found });
            }
            decoder.base = Some(base);
        }
        let Some(key) = projected.key.key().or(options.key) else {
            return Err(WspError::MissingKey { path: path() });
        };
        let planes = options.planes.unwrap_or(usize::MAX);
        let expansion = Expansion::new(file, key, planes).map_err(|reason| reason.at(&file.path));
        decoder.expansion = Some(expansion?);
        Ok(decoder)
    }

    /// Decodes all tensors in the order of the file and hands each over with its name. Beside the
    /// tensor at hand and the coefficients a few sections are in memory, as many as there are threads.
    ///
    /// # Errors
    /// `Malformed` if a section does not decode, or the base lacks a tensor; or the first error that
    /// `consume` returns.
    pub fn decode_each<E: From<WspError>>(
        &self,
        mut consume: impl FnMut(&str, Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut symbols = Symbols::new(self.file);
        let mut raw = RawBytes::new(self.file);
        let entries = self.file.entries();
        let mut whole = |index: usize| {
            let entry = &entries[index];
            match &entry.storage {
                Storage::Raw => raw.tensor(entry),
                // The predictor is often in the same section, and that is still there.
                Storage::Quantized { scale, exponents, .. } if self.prediction.is_none() => {
                    symbols.tensor(index, entry, *scale, *exponents)
                }
                _ => self.part(index, 0..entry.info.element_count(), entry.info.shape.clone()),
            }
        };
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.inner) {
            let tensor = match entry.storage {
                Storage::Product => whole(index + 1).and_then(|left| {
                    Ok(product::tensor(&left, &whole(index + 2)?, entry.info.shape.clone()))
                }),
                _ => whole(index),
            };
            consume(&entry.info.name, tensor.map_err(|reason| reason.at(&self.file.path))?)?;
        }
        Ok(())
    }

    /// Decodes all tensors.
    ///
    /// # Errors
    /// As those of [`decode_each`](Self::decode_each).
    pub fn state_dict(&self) -> Result<StateDict, WspError> {
        let mut dict = StateDict::new();
        self.decode_each(|name, tensor| -> Result<(), WspError> {
            dict.insert(name, tensor);
            Ok(())
        })?;
        Ok(dict)
    }

    /// Type and shape of the tensor of that name.
    pub fn info(&self, name: &str) -> Option<&'a TensorInfo> {
        self.indices.get(name).map(|&index| &self.file.entries()[index].info)
    }

    /// Names of the predicted tensors of a file in its order, with their tiles and the orders of these.
    pub fn predicted(&self) -> impl Iterator<Item = (&'a str, &Tiling, &Order)> {
        let tensors = self.prediction.iter().flat_map(Prediction::tensors);
        let entries = self.file.entries();
        tensors.map(|(index, (tiling, order))| (entries[index].info.name.as_str(), tiling, order))
    }

    /// Decodes the tensors that are not the network's, but what others are made of.
    ///
    /// # Errors
    /// `Malformed` if a section does not decode.
    pub fn inner_tensors(&self) -> Result<StateDict, WspError> {
        let mut dict = StateDict::new();
        for (index, entry) in self.file.entries().iter().enumerate().filter(|(_, e)| e.inner) {
            let Entry { info, .. } = entry;
            let tensor = self.part(index, 0..info.element_count(), info.shape.clone());
            dict.insert(info.name.clone(), tensor.map_err(|reason| reason.at(&self.file.path))?);
        }
        Ok(dict)
    }

    /// Decodes some rows of a tensor, that is some indices of its outermost dimension; a scalar has
    /// one. Of a projected tensor only these rows are generated, of a product only these computed; of others the sections that hold
    /// them are decoded, and the last ones are kept for the next call.
    ///
    /// # Errors
    /// `Malformed` if there is no such tensor or row, or as [`decode_each`](Self::decode_each).
    pub fn rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor, WspError> {
        self.checked_rows(name, rows).map_err(|reason| reason.at(&self.file.path))
    }

    fn checked_rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor, Reason> {
        let Some(&index) = self.indices.get(name) else {
            return refuse!("no tensor {}", quoted(name));
        };
        let mut shape = self.file.entries()[index].info.shape.clone();
        let count = shape.first().copied().unwrap_or(1);
        if rows.start > rows.end || rows.end > count {
            return refuse!("rows {rows:?} of {}, which has {count}", quoted(name));
        }
        let row: usize = shape.iter().skip(1).product();
        match shape.first_mut() {
            Some(first) => *first = rows.len(),
            None if rows.is_empty() => return refuse!("no row of {}, a scalar", quoted(name)),
            None => {}
        }
        self.part(index, rows.start * row..rows.end * row, shape)
    }

    /// Consecutive elements of a tensor, of a product or prediction whole rows, as a tensor of that shape.
    fn part(
        &self,
        index: usize,
        elements: Range<usize>,
        shape: Vec<usize>,
    ) -> Result<Tensor, Reason> {
        let entry = &self.file.entries()[index];
        let Entry { info, storage, .. } = entry;
        let bytes = match storage {
            Storage::Raw => self.stored.raw(index, elements)?,
            Storage::Constant { element } => element.repeat(elements.len()),
            Storage::Quantized { scale, exponents, .. } => {
                let values = self.stored.quantized(index, elements, *scale, *exponents)?;
                return Ok(Tensor::from_f32(shape, &values));
            }
            Storage::Base => {
                let size = info.dtype.size();
                let base = self.of_base(entry)?;
                base.bytes()[elements.start * size..elements.end * size].to_vec()
            }
            Storage::Projected => {
                let Some(expansion) = &self.expansion else {
                    return refuse!("{} without a projection", quoted(&info.name));
                };
                let base = expansion.needs_base().then(|| self.of_base(entry)).transpose()?;
                return Ok(Tensor::from_f32(shape, &expansion.weights(index, elements, base)?));
            }
            Storage::Predicted => {
                let Some(prediction) = &self.prediction else {
                    return refuse!("{} without a predictor", quoted(&info.name));
                };
                let (mut weights, mask) = prediction.weights(index, elements.clone())?;
                if let Some(mask) = mask {
                    let mask = self.part(mask, elements, vec![weights.len()])?;
                    weights.iter_mut().zip(&*mask.to_f32()).for_each(|(w, mask)| *w *= mask);
                }
                return Ok(Tensor::from_f32(shape, &weights));
            }
            Storage::Product => return self.product_rows(index, elements, shape),
        };
        Ok(Tensor::from_bytes(info.dtype, shape, bytes))
    }

    /// All elements of a tensor.
    fn whole(&self, index: usize) -> Result<Vec<f32>, Reason> {
        let count = self.file.entries()[index].info.element_count();
        Ok(self.part(index, 0..count, vec![count])?.to_f32().into_owned())
    }

    /// Whole rows of a product.
    fn product_rows(
        &self,
        index: usize,
        elements: Range<usize>,
        shape: Vec<usize>,
    ) -> Result<Tensor, Reason> {
        let factor = |index: usize| &self.file.entries()[index].info.shape;
        let (rank, columns) = (factor(index + 1)[1], factor(index + 2)[1]);
        let (first, end) = (elements.start / columns, elements.end / columns);
        let left = self.part(index + 1, first * rank..end * rank, vec![end - first, rank])?;
        let right = self.part(index + 2, 0..rank * columns, vec![rank, columns])?;
        Ok(product::tensor(&left, &right, shape))
    }

    /// The base's tensor of that name, which must be alike. Coefficients can also be added to types
    /// that fit into `f32`.
    fn of_base(&self, entry: &Entry) -> Result<&'a Tensor, Reason> {
        let Entry { info, storage, .. } = entry;
        let name = quoted(&info.name);
        let Some(tensor) = self.base.and_then(|base| base.get(&info.name)) else {
            return refuse!("the base has no tensor {name}");
        };
        let fits = match storage {
            Storage::Projected => expansion::fits_f32(tensor.dtype()),
            _ => tensor.dtype() == info.dtype,
        };
        if !fits || tensor.shape() != info.shape {
            let (dtype, shape) = (tensor.dtype(), tensor.shape());
            let expected = (info.dtype, &info.shape);
            return refuse!(
                "the base's {name} is {dtype} {shape:?}, expected {} {:?}",
                expected.0,
                expected.1
            );
        }
        Ok(tensor)
    }
}
