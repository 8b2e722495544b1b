//! A labelled set of images in memory.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::{DataError, Preprocessing, PreprocessingError, Split};

/// Pixels of all images of a data set: images x channels x height x width, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// Integers; 255 is full intensity unless [`Dataset::with_scale`] says otherwise.
    U8(Vec<u8>),
    /// Real numbers; 1 is full intensity unless [`Dataset::with_scale`] says otherwise.
    F32(Vec<f32>),
}

impl Pixels {
    /// Number of pixel values.
    pub fn len(&self) -> usize {
        match self {
            Pixels::U8(values) => values.len(),
            Pixels::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Pixels of one image: channels x height x width, row by row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Image<'a> {
    /// Integers.
    U8(&'a [u8]),
    /// Real numbers.
    F32(&'a [f32]),
}

/// Labelled images of one size, resident in memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    name: String,
    split: Option<Split>,
    shape: [usize; 3],
    pixels: Pixels,
    scale: f32,
    labels: Vec<u16>,
    class_names: Vec<String>,
    sha256: OnceLock<String>,
}

impl Dataset {
    /// A data set of images of `shape` (channels, height, width); a label is an index into
    /// `class_names`.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] if the image size is zero, if the number of pixels is not that
    /// of one image per label, or if a label has no class.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        pixels: Pixels,
        labels: Vec<u16>,
        class_names: Vec<String>,
    ) -> Result<Self, DataError> {
        let name = name.into();
        let inconsistent =
            |problem| Err(DataError::Inconsistent { dataset: name.clone(), problem });
        let expected = shape.iter().try_fold(labels.len(), |total, &n| total.checked_mul(n));
        if shape.contains(&0) || expected != Some(pixels.len()) {
            let [channels, height, width] = shape;
            return inconsistent(format!(
                "{} pixel values are not {} images of {channels} x {height} x {width}",
                pixels.len(),
                labels.len(),
            ));
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= class_names.len()) {
            return inconsistent(format!("label {label} of {} classes", class_names.len()));
        }
        let scale = match pixels {
            Pixels::U8(_) => 255.0,
            Pixels::F32(_) => 1.0,
        };
        let sha256 = OnceLock::new();
        Ok(Self { name, split: None, shape, pixels, scale, labels, class_names, sha256 })
    }

    /// Sets the pixel value of full intensity, a positive number, by which preprocessing divides.
    pub fn with_scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// Records which published split this is.
    pub fn with_split(self, split: Split) -> Self {
        Self { split: Some(split), ..self }
    }

    /// Name under which it was opened, with the severity of a shift always stated.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The published split that these images are. `None` if the source has no splits of its own, as
    /// a plain folder of images: then training and test images are the same.
    pub fn split(&self) -> Option<Split> {
        self.split
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels, height and width of every image, before preprocessing.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Pixel value of full intensity.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Pixels of all images.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// Class of every image, an index into [`Dataset::class_names`].
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Names of the classes.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Number of classes.
    pub fn class_count(&self) -> usize {
        self.class_names.len()
    }

    /// Number of images of every class.
    pub fn class_histogram(&self) -> Vec<usize> {
        let mut counts = vec![0; self.class_count()];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    /// Pixels of image `index`.
    ///
    /// # Panics
    /// If there are not that many images.
    pub fn image(&self, index: usize) -> Image<'_> {
        let size: usize = self.shape.iter().product();
        let range = index * size..(index + 1) * size;
        match &self.pixels {
            Pixels::U8(values) => Image::U8(&values[range]),
            Pixels::F32(values) => Image::F32(&values[range]),
        }
    }

    /// Writes image `index` to `out`, preprocessed, as channels x height x width of
    /// [`Preprocessing::output_shape`].
    ///
    /// # Errors
    /// If the preprocessing does not fit the images.
    ///
    /// # Panics
    /// If there are not that many images, or `out` has another length than the output shape.
    pub fn write_normalised(
        &self,
        index: usize,
        preprocessing: &Preprocessing,
        out: &mut [f32],
    ) -> Result<(), PreprocessingError> {
        match self.image(index) {
            Image::U8(pixels) => preprocessing.apply(pixels, self.shape, self.scale, out),
            Image::F32(pixels) => preprocessing.apply(pixels, self.shape, self.scale, out),
        }
    }

    /// Writes a batch to `out`: the images `indices`, in that order, each as
    /// [`Dataset::write_normalised`] does. Nothing is allocated.
    ///
    /// # Errors
    /// If the preprocessing does not fit the images.
    ///
    /// # Panics
    /// If an index is out of range, or `out` has another length than that many images.
    pub fn fill(
        &self,
        indices: &[usize],
        preprocessing: &Preprocessing,
        out: &mut [f32],
    ) -> Result<(), PreprocessingError> {
        let size = preprocessing.output_shape(self.shape)?.iter().product::<usize>();
        assert_eq!(out.len(), indices.len() * size, "length of the batch");
        for (&index, image) in indices.iter().zip(out.chunks_exact_mut(size)) {
            self.write_normalised(index, preprocessing, image)?;
        }
        Ok(())
    }

    /// The same images under another name and with other pixels.
    pub(super) fn with_changed_pixels(
        mut self,
        name: String,
        change: impl FnOnce(&mut Pixels),
    ) -> Self {
        change(&mut self.pixels);
        Self { name, sha256: OnceLock::new(), ..self }
    }

    /// The same under another name.
    pub(super) fn renamed(self, name: String) -> Self {
        Self { name, sha256: OnceLock::new(), ..self }
    }

    /// The same labels with other images, under another name.
    pub(super) fn with_images(self, name: String, shape: [usize; 3], pixels: Pixels) -> Self {
        Self { name, shape, pixels, sha256: OnceLock::new(), ..self }
    }

    /// Those images whose label is accepted, in the same order, under another name.
    pub(super) fn with_labels(mut self, name: String, accepted: impl Fn(u16) -> bool) -> Self {
        let size: usize = self.shape.iter().product();
        let kept = self.labels.iter().map(|&label| accepted(label));
        match &mut self.pixels {
            Pixels::U8(values) => retain_images(values, size, kept),
            Pixels::F32(values) => retain_images(values, size, kept),
        }
        self.labels.retain(|&label| accepted(label));
        Self { name, sha256: OnceLock::new(), ..self }
    }

    /// SHA-256 of the content in lower-case hexadecimal, for records of what a run has seen. It
    /// does not depend on file formats and names: it covers number of images, channels, height,
    /// width, classes (each as little-endian u64), the scale (f32), labels (u16) and pixels (u8 or
    /// f32), all little-endian. Computed at the first call.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let mut hasher = Sha256::new();
            let [channels, height, width] = self.shape;
            for size in [self.len(), channels, height, width, self.class_count()] {
                hasher.update((size as u64).to_le_bytes());
            }
            hasher.update(self.scale.to_le_bytes());
            for label in &self.labels {
                hasher.update(label.to_le_bytes());
            }
            match &self.pixels {
                Pixels::U8(values) => hasher.update(values),
                Pixels::F32(values) => {
                    values.iter().for_each(|value| hasher.update(value.to_le_bytes()));
                }
            }
            hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }
}

/// Moves the images that are kept, of `size` values each, to the front, and cuts off the rest.
fn retain_images<T: Copy>(values: &mut Vec<T>, size: usize, kept: impl Iterator<Item = bool>) {
    let mut end = 0;
    for (index, _) in kept.enumerate().filter(|&(_, kept)| kept) {
        values.copy_within(index * size..(index + 1) * size, end);
        end += size;
    }
    values.truncate(end);
}
