//! SPDX's names of licenses.

/// As the Hub calls a license, and as SPDX does; what is in neither list keeps its name.
const SPDX: &[(&str, &str)] = &[
    ("apache-2.0", "Apache-2.0"),
    ("mit", "MIT"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("cc0-1.0", "CC0-1.0"),
    ("cc-by-3.0", "CC-BY-3.0"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("cc-by-nc-3.0", "CC-BY-NC-3.0"),
    ("cc-by-nc-4.0", "CC-BY-NC-4.0"),
    ("cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"),
    ("cc-by-nd-4.0", "CC-BY-ND-4.0"),
    ("cc-by-nc-nd-4.0", "CC-BY-NC-ND-4.0"),
    ("mpl-2.0", "MPL-2.0"),
    ("eupl-1.1", "EUPL-1.1"),
    ("unlicense", "Unlicense"),
    ("wtfpl", "WTFPL"),
    ("zlib", "Zlib"),
    ("isc", "ISC"),
];

/// SPDX's identifier of a license that the Hub names, where it is one and the same. The Hub's `gpl-3.0` and its like leave open
/// whether later versions count, so that they are none.
pub fn spdx(hub: &str) -> Option<&'static str> {
    SPDX.iter().find(|(known, _)| known.eq_ignore_ascii_case(hub)).map(|(_, id)| *id)
}
