//! Rows of text in aligned columns, and sizes as people read and write them.

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

/// `2900000`, `2.9MB`, `350kB`; in powers of 1000.
pub fn bytes(text: &str) -> Result<u64, String> {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0), ("", 1.0)];
    let found = units.iter().find_map(|(unit, size)| Some((text.trim().strip_suffix(unit)?.trim(), size)));
    let number = found.and_then(|(number, size)| Some(number.parse::<f64>().ok()? * size));
    number
        .filter(|n| *n >= 1.0 && *n < 1e15)
        .map(|n| n as u64)
        .ok_or_else(|| "expected a size as 2900000 or 2.9MB".into())
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

    #[test]
    fn sizes_are_read_in_powers_of_a_thousand() {
        assert_eq!(
            [bytes("2900000"), bytes("2.9MB"), bytes("350 kB"), bytes("1GB")].map(|b| b.ok()),
            [Some(2_900_000), Some(2_900_000), Some(350_000), Some(1_000_000_000)]
        );
        assert!(["", "MB", "-3", "2 TB", "NaN", "0"].iter().all(|text| bytes(text).is_err()));
    }
}
