//! The most similar of many short rows: an exact search in a tree.

use super::tour::Similarity;

/// Rows of a leaf, which are looked at together.
const LEAF: usize = 16;

/// No row.
const NONE: u32 = u32::MAX;

/// What roundings may add to a cosine.
const MARGIN: f32 = 1e-5;

/// Rows that can be taken away, and the one of them most similar to another.
///
/// Every node has bounds of its rows: a cone around their mean direction for cosines, a box for distances.
/// A node is looked into unless all of its rows are less similar than the best so far, or as similar and
/// behind it: so what is found is what a comparison with every row would find.
pub struct Nearest {
    width: usize,
    similarity: Similarity,
    nodes: Vec<Node>,
    /// For each node the axis of its cone, or the least and the greatest values of its rows.
    bounds: Vec<f32>,
    /// For each leaf its rows, `[width][LEAF]`.
    values: Vec<f32>,
    /// For each place in a leaf the number of the row; [`NONE`] for those taken away.
    numbers: Vec<u32>,
    /// For each row its place.
    places: Vec<u32>,
    /// For each leaf its node.
    leaf_nodes: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    children: Children,
    /// The lowest number of its rows; [`NONE`] if there are none.
    first: u32,
    /// All of its rows were equal.
    is_point: bool,
    /// Cosine and sine of its cone's half angle; `None` where there is no cone.
    angle: Option<[f32; 2]>,
}

#[derive(Clone, Copy)]
enum Children {
    Leaf(u32),
    Nodes(u32, u32),
}

/// What is best so far: of equals the one of the lowest number.
#[derive(Clone, Copy)]
struct Best {
    value: f32,
    number: u32,
}

impl Best {
    fn offer(&mut self, value: f32, number: u32) {
        if value > self.value || value == self.value && number < self.number {
            *self = Best { value, number };
        }
    }

    /// Whether something of this value at best, and of this number or later, could be better.
    fn may_be_beaten(&self, bound: f32, first: u32) -> bool {
        bound > self.value || bound == self.value && first < self.number
    }
}

impl Nearest {
    /// Those of the rows (row-major, `width` values each, fewer than 2^32 - 1) that have these numbers, at
    /// least one.
    pub fn new(rows: &[f32], width: usize, similarity: Similarity, mut numbers: Vec<u32>) -> Self {
        let mut tree = Nearest {
            width,
            similarity,
            nodes: Vec::new(),
            bounds: Vec::new(),
            values: Vec::new(),
            numbers: Vec::new(),
            places: vec![0; rows.len() / width],
            leaf_nodes: Vec::new(),
        };
        tree.build(rows, &mut numbers, NONE);
        tree
    }

    /// Adds the node of some rows, and all below it; returns its number.
    fn build(&mut self, rows: &[f32], numbers: &mut [u32], parent: u32) -> u32 {
        let width = self.width;
        let row = |number: u32| &rows[number as usize * width..][..width];
        let node = self.nodes.len() as u32;
        let first = numbers.iter().min().copied().unwrap_or(NONE);
        let is_point = numbers.iter().all(|&number| row(number) == row(first));
        let angle = match self.similarity {
            Similarity::Cosine => self.add_cone(numbers, row),
            Similarity::Distance => {
                self.add_box(numbers, row);
                None
            }
        };
        let children = Children::Leaf(self.leaf_nodes.len() as u32);
        self.nodes.push(Node { parent, children, first, is_point, angle });
        if numbers.len() <= LEAF {
            self.add_leaf(rows, numbers, node);
            return node;
        }
        // Along the line from the row farthest from the first to the one farthest from that.
        let distance = |a: u32, b: u32| -> f32 {
            row(a).iter().zip(row(b)).map(|(a, b)| (a - b) * (a - b)).sum()
        };
        let farthest = |from: u32| {
            let all = numbers.iter().copied();
            all.max_by(|&a, &b| distance(from, a).total_cmp(&distance(from, b))).unwrap_or(from)
        };
        let end = farthest(numbers[0]);
        let other = farthest(end);
        let line: Vec<f32> = row(other).iter().zip(row(end)).map(|(a, b)| a - b).collect();
        let mut keys: Vec<(f32, u32)> = numbers
            .iter()
            .map(|&number| (row(number).iter().zip(&line).map(|(a, b)| a * b).sum(), number))
            .collect();
        // Whole leaves on the left, so that all but the last are full.
        let middle = (numbers.len() / 2).next_multiple_of(LEAF);
        let middle = if middle < numbers.len() { middle } else { middle - LEAF };
        keys.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        numbers.iter_mut().zip(keys).for_each(|(number, (_, key))| *number = key);
        let (left, right) = numbers.split_at_mut(middle);
        let left = self.build(rows, left, node);
        let right = self.build(rows, right, node);
        self.nodes[node as usize].children = Children::Nodes(left, right);
        node
    }

    /// Adds the axis of the cone of some rows; returns its angle. Rows of zeros are in no cone.
    fn add_cone<'a>(
        &mut self,
        numbers: &[u32],
        row: impl Fn(u32) -> &'a [f32],
    ) -> Option<[f32; 2]> {
        let mut mean = vec![0f64; self.width];
        for &number in numbers {
            mean.iter_mut().zip(row(number)).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        let norm = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
        mean.iter_mut().for_each(|v| *v /= norm.max(f64::MIN_POSITIVE));
        self.bounds.extend(mean.iter().map(|&v| v as f32));
        let is_unit = |number: &u32| {
            let square: f32 = row(*number).iter().map(|v| v * v).sum();
            (square - 1.0).abs() < MARGIN
        };
        if norm == 0.0 || !numbers.iter().all(is_unit) {
            return None;
        }
        let cosine = |&number: &u32| -> f64 {
            mean.iter().zip(row(number)).map(|(a, &b)| a * f64::from(b)).sum()
        };
        let cosine = numbers.iter().map(cosine).fold(1f64, f64::min);
        // Of wider cones the bound could be off by more than the margin.
        (cosine > 0.0).then(|| [cosine as f32, (1.0 - cosine * cosine).sqrt() as f32])
    }

    fn add_box<'a>(&mut self, numbers: &[u32], row: impl Fn(u32) -> &'a [f32]) {
        let start = self.bounds.len();
        self.bounds.resize(start + self.width, f32::INFINITY);
        self.bounds.resize(start + 2 * self.width, f32::NEG_INFINITY);
        let (least, greatest) = self.bounds[start..].split_at_mut(self.width);
        for &number in numbers {
            for (axis, &v) in row(number).iter().enumerate() {
                least[axis] = least[axis].min(v);
                greatest[axis] = greatest[axis].max(v);
            }
        }
    }

    fn add_leaf(&mut self, rows: &[f32], numbers: &[u32], node: u32) {
        let leaf = self.leaf_nodes.len();
        self.leaf_nodes.push(node);
        let start = self.values.len();
        self.values.resize(start + self.width * LEAF, 0.0);
        self.numbers.resize((leaf + 1) * LEAF, NONE);
        for (i, &number) in numbers.iter().enumerate() {
            let place = leaf * LEAF + i;
            self.numbers[place] = number;
            self.places[number as usize] = place as u32;
            let row = &rows[number as usize * self.width..][..self.width];
            row.iter().enumerate().for_each(|(j, &v)| self.values[start + j * LEAF + i] = v);
        }
    }

    /// Takes a row away that is there.
    pub fn remove(&mut self, row: u32) {
        let place = self.places[row as usize] as usize;
        self.numbers[place] = NONE;
        let leaf = place / LEAF;
        let mut node = self.leaf_nodes[leaf];
        while node != NONE && self.nodes[node as usize].first == row {
            let first = match self.nodes[node as usize].children {
                Children::Leaf(_) => self.numbers[leaf * LEAF..][..LEAF].iter().min().copied(),
                Children::Nodes(left, right) => {
                    [left, right].map(|child| self.nodes[child as usize].first).into_iter().min()
                }
            };
            self.nodes[node as usize].first = first.unwrap_or(NONE);
            node = self.nodes[node as usize].parent;
        }
    }

    /// The row most similar to `query`, a row of length 1 or zeros for cosines; of equals the first.
    /// `None` if none is left.
    pub fn nearest(&self, query: &[f32]) -> Option<u32> {
        let first = self.nodes[0].first;
        // All rows are alike to zeros.
        if self.similarity == Similarity::Cosine && query.iter().all(|&v| v == 0.0) {
            return Some(first).filter(|&first| first != NONE);
        }
        let mut best = Best { value: f32::NEG_INFINITY, number: NONE };
        self.search(0, f32::INFINITY, query, &mut best);
        Some(best.number).filter(|&number| number != NONE)
    }

    fn search(&self, node: u32, bound: f32, query: &[f32], best: &mut Best) {
        let Node { children, first, is_point, .. } = self.nodes[node as usize];
        if first == NONE || !best.may_be_beaten(bound, first) {
            return;
        }
        match children {
            Children::Leaf(leaf) => self.search_leaf(leaf as usize, query, best),
            Children::Nodes(..) if is_point => {
                let place = self.places[first as usize] as usize;
                let values = &self.values[place / LEAF * self.width * LEAF..];
                let row = values.iter().skip(place % LEAF).step_by(LEAF);
                let value = query.iter().zip(row).fold(0.0, |sum, (q, v)| self.add(sum, *q, *v));
                best.offer(value, first);
            }
            Children::Nodes(left, right) => {
                let [a, b] = [left, right].map(|child| (self.bound(child, query), child));
                let (near, far) = if b.0.0 > a.0.0 { (b, a) } else { (a, b) };
                for ((_, bound), child) in [near, far] {
                    self.search(child, bound, query, best);
                }
            }
        }
    }

    /// A similarity's next term.
    #[inline(always)]
    fn add(&self, sum: f32, query: f32, value: f32) -> f32 {
        match self.similarity {
            Similarity::Cosine => sum + query * value,
            Similarity::Distance => sum - (query - value) * (query - value),
        }
    }

    fn search_leaf(&self, leaf: usize, query: &[f32], best: &mut Best) {
        let values = &self.values[leaf * self.width * LEAF..][..self.width * LEAF];
        let mut sums = [0f32; LEAF];
        for (&q, values) in query.iter().zip(values.as_chunks::<LEAF>().0) {
            match self.similarity {
                Similarity::Cosine => (0..LEAF).for_each(|i| sums[i] += q * values[i]),
                Similarity::Distance => {
                    (0..LEAF).for_each(|i| sums[i] -= (q - values[i]) * (q - values[i]));
                }
            }
        }
        // Most leaves have nothing better, which is seen of all rows at once.
        if !sums.iter().fold(false, |any, &sum| any | (sum >= best.value)) {
            return;
        }
        for (sum, &number) in sums.iter().zip(&self.numbers[leaf * LEAF..][..LEAF]) {
            if number != NONE {
                best.offer(*sum, number);
            }
        }
    }

    /// How near a node is, and the highest similarity that a row of it can have.
    fn bound(&self, node: u32, query: &[f32]) -> (f32, f32) {
        match self.similarity {
            Similarity::Cosine => {
                let axis = &self.bounds[node as usize * self.width..][..self.width];
                let cosine: f32 = query.iter().zip(axis).map(|(q, a)| q * a).sum();
                let bound = match self.nodes[node as usize].angle {
                    None => f32::INFINITY,
                    Some([inner, _]) if cosine >= inner => f32::INFINITY,
                    // cos(a - b), of the angle to the axis and the cone's own.
                    Some([inner, sine]) => {
                        cosine * inner + (1.0 - cosine * cosine).max(0.0).sqrt() * sine + MARGIN
                    }
                };
                (cosine, bound)
            }
            // Rounding is monotone, so that no row comes nearer than its box, not even by a rounding.
            Similarity::Distance => {
                let values = &self.bounds[node as usize * 2 * self.width..][..2 * self.width];
                let (least, greatest) = values.split_at(self.width);
                let mut sum = 0f32;
                for ((q, a), b) in query.iter().zip(least).zip(greatest) {
                    let distance = (a - q).max(q - b).max(0.0);
                    sum -= distance * distance;
                }
                (sum, sum)
            }
        }
    }
}
