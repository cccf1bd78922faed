//! Forms of strings (`format`) and of quantities and times.

use jiff::Timestamp;

/// Whether a text has the form that `format` names. Formats that Kubernetes does not check hold for every text.
pub(crate) fn holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_date_time(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_duration(text),
        "byte" => is_base64(text),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, length)| {
            let length = length.parse::<u8>().ok();
            match address.parse::<std::net::IpAddr>() {
                Ok(address) => {
                    length.is_some_and(|l| l <= if address.is_ipv4() { 32 } else { 128 })
                }
                Err(_) => false,
            }
        }),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid::Uuid::parse_str(text).is_ok(),
        "uri" => text.contains(':') && text.parse::<http::Uri>().is_ok(),
        "hostname" => {
            !text.is_empty()
                && text.len() <= 253
                && text.split('.').all(|label| {
                    !label.is_empty()
                        && label.len() <= 63
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                })
        }
        "email" => text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()),
        _ => true,
    }
}

/// RFC 3339 with a zone.
pub(crate) fn is_date_time(text: &str) -> bool {
    text.as_bytes()
        .get(10)
        .is_some_and(|b| matches!(b, b'T' | b't'))
        && text.parse::<Timestamp>().is_ok()
}

/// A duration of Go: `1h30m`, `-1.5s`, `0`.
pub(crate) fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number = &rest[..digits];
        if number.parse::<f64>().is_err() {
            return false;
        }
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        if !matches!(
            &rest[..unit],
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" | "d" | "w"
        ) {
            return false;
        }
        rest = &rest[unit..];
    }
    true
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .is_ok()
}

/// A quantity such as `500m` or `1Gi` as a number; `None` if it is malformed.
pub(crate) fn quantity(text: &str) -> Option<f64> {
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            return Some(number * 10f64.powi(exponent.parse().ok()?));
        }
    };
    Some(number * factor)
}

/// Binary suffixes with their power of two.
const BINARY: [(&str, u32); 7] = [
    ("Ei", 60),
    ("Pi", 50),
    ("Ti", 40),
    ("Gi", 30),
    ("Mi", 20),
    ("Ki", 10),
    ("", 0),
];

/// Decimal suffixes with their power of ten, times a thousand million.
const DECIMAL: [(&str, u32); 10] = [
    ("E", 27),
    ("P", 24),
    ("T", 21),
    ("G", 18),
    ("M", 15),
    ("k", 12),
    ("", 9),
    ("m", 6),
    ("u", 3),
    ("n", 0),
];

/// A quantity in its canonical form: no fraction, the largest suffix that leaves an integer.
pub(crate) fn canonical_quantity(text: &str) -> Option<String> {
    quantity(text)?;
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if suffix.starts_with(['e', 'E']) && suffix.len() > 1 && suffix != "Ei"
        || whole.len() > 18
        || fraction.len() > 9
    {
        return Some(text.to_owned());
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let nanos: u128 = whole * 1_000_000_000 + format!("{fraction:0<9}").parse::<u128>().ok()?;
    let sign = if negative && nanos != 0 { "-" } else { "" };
    if let Some((_, power)) = BINARY.iter().find(|(s, _)| !s.is_empty() && *s == suffix) {
        let value = nanos.checked_mul(1 << power)?;
        if value % 1_000_000_000 == 0 {
            let value = value / 1_000_000_000;
            let (suffix, power) = BINARY
                .iter()
                .find(|(_, power)| value != 0 && value % (1 << power) == 0)
                .copied()
                .unwrap_or(("", 0));
            return Some(format!("{sign}{}{suffix}", value >> power));
        }
        return Some(text.to_owned());
    }
    let power = DECIMAL.iter().find(|(s, _)| *s == suffix)?.1;
    let value = nanos.checked_mul(10u128.checked_pow(power)?)? / 1_000_000_000;
    let (suffix, power) = DECIMAL
        .iter()
        .find(|(_, power)| value != 0 && value % 10u128.pow(*power) == 0)
        .copied()
        .unwrap_or(("", 0));
    Some(format!("{sign}{}{suffix}", value / 10u128.pow(power)))
}
