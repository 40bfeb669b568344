//! Rows of text in aligned columns, and sizes as people read them.

/// Each row on a line, columns padded to their widest cell and two spaces apart. Every line begins with `indent` spaces.
pub fn aligned(indent: usize, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let text = format!("{:indent$}{}", "", cells.collect::<Vec<_>>().join("  "));
        format!("{}\n", text.trim_end())
    };
    rows.iter().map(line).collect()
}

/// `892.1 MB`, in powers of 1000.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let rows = [vec!["a".to_owned(), "µµµ".to_owned()], vec!["bcd".to_owned(), String::new(), "e".to_owned()]];
        assert_eq!(aligned(1, &rows), " a    µµµ\n bcd       e\n");
    }

    #[test]
    fn sizes_are_told_in_powers_of_a_thousand() {
        let sizes = [999, 1_000, 999_949, 892_100_000, 3_220_000_000].map(size);
        assert_eq!(sizes, ["999 B", "1.0 kB", "999.9 kB", "892.1 MB", "3.22 GB"]);
    }
}
