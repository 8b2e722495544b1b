//! Where each tensor of a network stands in one flat vector of weights.

/// One tensor of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutEntry {
    /// Name in the state dict.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Position of the first element in the flat vector.
    pub offset: usize,
    /// Inputs of one output unit (Cin x kh x kw of the layer's weight); a bias has its weight's.
    pub fan_in: usize,
}

impl LayoutEntry {
    /// Number of elements.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Positions of the elements in the flat vector.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.element_count()
    }
}

/// The tensors of a network laid end to end: what a compression method knows of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<LayoutEntry>,
    len: usize,
}

impl Layout {
    /// An empty layout.
    pub fn new() -> Self {
        Layout::default()
    }

    /// Appends a tensor behind the last one.
    pub fn push(&mut self, name: impl Into<String>, shape: Vec<usize>, fan_in: usize) {
        let entry = LayoutEntry { name: name.into(), shape, offset: self.len, fan_in };
        self.len += entry.element_count();
        self.entries.push(entry);
    }

    /// The tensors in order.
    pub fn entries(&self) -> &[LayoutEntry] {
        &self.entries
    }

    /// Length of the flat vector.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&LayoutEntry> {
        self.entries.iter().find(|e| e.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_stand_end_to_end() {
        let mut layout = Layout::new();
        layout.push("a", vec![2, 3], 3);
        layout.push("b", vec![2], 3);
        assert_eq!(layout.get("b").unwrap().range(), 6..8);
        assert_eq!(layout.len(), 8);
    }
}
