//! How wide a text will be, told without a font.

/// Em of the widest of the usual sans-serif fonts (DejaVu Sans), so that a text in any of them is not wider than this says.
pub fn em(text: &str) -> f64 {
    text.chars().map(em_of).sum()
}

fn em_of(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | 'I' => 0.35,
        'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '-' | '/' => 0.42,
        'm' | 'M' | 'W' | '%' | '@' | '…' => 1.0,
        'w' | '=' | '+' | '<' | '>' | '≤' | '≥' | '×' | '~' => 0.84,
        'A'..='Z' => 0.76,
        c if c.is_ascii() => 0.64,
        // Marks above and below letters, which take no room of their own, are counted as if they did.
        c if u32::from(c) < 0x1100 => 0.72,
        _ => 1.05,
    }
}

/// At most so many em of a text; an ellipsis stands for what is cut from its end.
pub fn shortened(text: &str, em_limit: f64) -> String {
    if em(text) <= em_limit {
        return text.to_owned();
    }
    let mut room = em_limit - em("…");
    let kept = text.chars().take_while(|c| {
        room -= em_of(*c);
        room >= 0.0
    });
    kept.chain(['…']).collect()
}

/// The same, cut in the middle: names of tensors differ in either end.
pub fn squeezed(text: &str, em_limit: f64) -> String {
    if em(text) <= em_limit {
        return text.to_owned();
    }
    let half = (em_limit - em("…")) / 2.0;
    let side = |chars: &mut dyn Iterator<Item = char>| {
        let mut room = half;
        let fits = |c: &char| {
            room -= em_of(*c);
            room >= 0.0
        };
        chars.take_while(fits).collect::<Vec<char>>()
    };
    let (head, tail) = (side(&mut text.chars()), side(&mut text.chars().rev()));
    head.into_iter().chain(['…']).chain(tail.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_has_room_and_keeps_what_tells_it_apart() {
        let name = "decoder.block.11.layer.1.EncDecAttention.q.weight";
        let (end, middle) = (shortened(name, 12.0), squeezed(name, 12.0));
        assert!(em(&end) <= 12.0 && end.starts_with("decoder.block.11") && end.ends_with('…'), "{end}");
        assert!(em(&middle) <= 12.0 && middle.starts_with("decoder") && middle.ends_with("q.weight"), "{middle}");
        assert_eq!(shortened("q", 12.0), "q");
    }
}
