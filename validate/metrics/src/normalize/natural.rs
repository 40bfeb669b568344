//! Whole numbers of any length, as their digits.

use std::fmt;

/// A whole number that is not negative: decimal digits without leading zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Natural {
    digits: String,
}

impl Natural {
    /// Of digits, leading zeros allowed.
    fn of(digits: &str) -> Natural {
        let digits = digits.trim_start_matches('0');
        Natural { digits: if digits.is_empty() { "0" } else { digits }.to_owned() }
    }

    /// `10^zeros`.
    pub fn power_of_ten(zeros: usize) -> Natural {
        Natural { digits: format!("1{}", "0".repeat(zeros)) }
    }

    /// `decimal · 10^zeros`, where that is whole. `None` where it is not, and for a text that is no decimal: digits of any script with at
    /// most one point, and a digit at either side of it.
    pub fn scaled(decimal: &str, zeros: usize) -> Option<Natural> {
        let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
        let digits = |text: &str| text.chars().map(decimal_digit).collect::<Option<String>>();
        let (whole, part) = (digits(whole)?, digits(part)?);
        let part = match (whole.is_empty(), part.is_empty()) {
            (true, true) => return None,
            _ => part.trim_end_matches('0'),
        };
        let missing = zeros.checked_sub(part.len())?;
        Some(Natural::of(&format!("{whole}{part}{}", "0".repeat(missing))))
    }

    /// Whether it is 0.
    pub fn is_zero(&self) -> bool {
        self.digits == "0"
    }

    /// The sum with a number of `places` digits, where this one has that many zeros at its end (0 has any).
    pub fn filled(&self, number: u8, places: usize) -> Option<Natural> {
        let kept = self.digits.len().saturating_sub(places);
        let ends_in_zeros = self.digits[kept..].bytes().all(|digit| digit == b'0');
        ends_in_zeros.then(|| Natural::of(&format!("{}{number:0places$}", &self.digits[..kept])))
    }

    /// Thousands as they are, and what is below a thousand times `10^zeros`.
    pub fn with_hundreds_times(&self, zeros: usize) -> Natural {
        let kept = self.digits.len().saturating_sub(3);
        let below = Natural::of(&format!("{}{}", &self.digits[kept..], "0".repeat(zeros)));
        let thousands = Natural::of(&format!("{}000", &self.digits[..kept]));
        thousands.plus(&below)
    }

    fn plus(&self, other: &Natural) -> Natural {
        let width = self.digits.len().max(other.digits.len());
        let digits_of = |number: &Natural| format!("{:0>width$}", number.digits).into_bytes();
        let (a, b) = (digits_of(self), digits_of(other));
        let mut sum = vec![b'0'; width + 1];
        let mut carry = 0;
        for place in (0..width).rev() {
            let digit = (a[place] - b'0') + (b[place] - b'0') + carry;
            sum[place + 1] = b'0' + digit % 10;
            carry = digit / 10;
        }
        sum[0] += carry;
        Natural::of(&String::from_utf8(sum).expect("digits"))
    }
}

impl From<u8> for Natural {
    fn from(number: u8) -> Natural {
        Natural { digits: number.to_string() }
    }
}

impl fmt::Display for Natural {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits)
    }
}

/// The ASCII digit of a decimal digit in any script: Unicode has them in tens, from 0 to 9.
fn decimal_digit(c: char) -> Option<char> {
    use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
    let is_digit = |c: &char| c.general_category() == GeneralCategory::DecimalNumber;
    if !is_digit(&c) {
        return None;
    }
    let below = (1..).map_while(|step| char::from_u32(u32::from(c).checked_sub(step)?)).take_while(is_digit).count();
    Some(char::from(b'0' + (below % 10) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn natural(digits: &str) -> Natural {
        Natural::scaled(digits, 0).expect("whole")
    }

    #[test]
    fn a_decimal_is_scaled_exactly_or_not_at_all() {
        let of = |decimal: &str, zeros| Natural::scaled(decimal, zeros).map(|number| number.to_string());
        assert_eq!(of("1.50", 1).as_deref(), Some("15"));
        assert_eq!(of("1.55", 1), None);
        assert_eq!(of(".5", 3).as_deref(), Some("500"));
        assert_eq!(of("007.", 0).as_deref(), Some("7"));
        assert_eq!(of("٣.٥", 2).as_deref(), Some("350"));
        assert_eq!([of(".", 2), of("", 2), of("1.2.3", 9), of("1.-5", 9)], [None, None, None, None]);
    }

    #[test]
    fn places_are_filled_only_where_they_are_zeros() {
        assert_eq!(natural("120").filled(7, 1), Some(natural("127")));
        assert_eq!(natural("100").filled(12, 2), Some(natural("112")));
        assert_eq!(natural("0").filled(12, 2), Some(natural("12")));
        assert_eq!(natural("121").filled(7, 1), None);
        assert_eq!(natural("110").filled(12, 2), None);
    }

    #[test]
    fn hundreds_are_multiplied_and_thousands_carry() {
        assert_eq!(natural("12345").with_hundreds_times(2), natural("46500"));
        assert_eq!(natural("999000999").with_hundreds_times(6), natural("1998000000"));
        assert_eq!(natural("5").with_hundreds_times(33).to_string(), format!("5{}", "0".repeat(33)));
    }
}
