//! What each text adds to a figure.

/// A row of sums for each text, all of one width; a figure is a function of rows added up.
#[derive(Clone, PartialEq, Debug)]
pub struct Sums {
    width: usize,
    values: Vec<f64>,
}

impl Sums {
    /// No text yet. `width`: at least 1.
    pub fn new(width: usize) -> Sums {
        Sums { width, values: Vec::new() }
    }

    /// Adds a text.
    pub fn push(&mut self, row: &[f64]) {
        assert_eq!(row.len(), self.width, "sums of a text");
        self.values.extend_from_slice(row);
    }

    /// Texts.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The sums of one text.
    pub fn row(&self, text: usize) -> &[f64] {
        &self.values[text * self.width..][..self.width]
    }

    /// Of each text.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.width)
    }

    /// The rows of these texts, in this order, added up.
    pub fn total(&self, texts: impl Iterator<Item = usize>) -> Vec<f64> {
        let mut total = vec![0.0; self.width];
        for text in texts {
            total.iter_mut().zip(self.row(text)).for_each(|(total, value)| *total += value);
        }
        total
    }

    /// All rows added up.
    pub fn whole(&self) -> Vec<f64> {
        self.total(0..self.len())
    }

    /// These texts alone.
    pub fn of(&self, texts: impl Iterator<Item = usize>) -> Sums {
        let mut of = Sums::new(self.width);
        texts.for_each(|text| of.push(self.row(text)));
        of
    }

    /// A row for each pair of texts: these sums, then those of `other`. As many as the side with fewer has.
    pub fn beside(&self, other: &Sums) -> Sums {
        let mut pairs = Sums::new(self.width + other.width);
        self.rows().zip(other.rows()).for_each(|(a, b)| pairs.push(&[a, b].concat()));
        pairs
    }
}
