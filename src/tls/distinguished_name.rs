//! Writes the name of a certificate's subject as text (RFC 4514).
//!
//! The result is ASCII: other characters and control characters are written as the octets of UTF-8 in hexadecimal, so
//! it is also valid under RFC 2253, and equal to what OpenSSL writes with `-nameopt RFC2253` and nginx as
//! `$ssl_client_s_dn`.

use std::fmt::Write as _;

use super::der::{OBJECT_IDENTIFIER, SEQUENCE, read_element, read_tagged};

/// The text of a name, which is given without its tag and length: the last component comes first, for example
/// `CN=billing,O=Acme`. `None` if the name is malformed; empty if it has no component.
pub(super) fn to_text(mut name: &[u8]) -> Option<String> {
    let mut components = Vec::new();
    while !name.is_empty() {
        let (component, rest) = read_tagged(name, SET)?;
        components.push(component_text(component)?);
        name = rest;
    }
    components.reverse();
    Some(components.join(","))
}

/// A component has one attribute, rarely more.
fn component_text(mut component: &[u8]) -> Option<String> {
    let mut attributes = Vec::new();
    while !component.is_empty() {
        let (attribute, rest) = read_tagged(component, SEQUENCE)?;
        let (kind, value) = read_tagged(attribute, OBJECT_IDENTIFIER)?;
        attributes.push(match (short_name(kind), decode(value)) {
            (Some(name), Some(value)) => format!("{name}={}", escape(&value)),
            (Some(name), None) => format!("{name}=#{}", hex(value)),
            (None, _) => format!("{}=#{}", dotted(kind)?, hex(value)),
        });
        component = rest;
    }
    attributes.reverse();
    Some(attributes.join("+"))
}

/// The names of attributes that are registered for LDAP (RFC 4519, RFC 4524 and IANA), as OpenSSL spells them.
fn short_name(kind: &[u8]) -> Option<&'static str> {
    let name = match kind {
        b"\x55\x04\x03" => "CN",
        b"\x55\x04\x04" => "SN",
        b"\x55\x04\x05" => "serialNumber",
        b"\x55\x04\x06" => "C",
        b"\x55\x04\x07" => "L",
        b"\x55\x04\x08" => "ST",
        b"\x55\x04\x09" => "street",
        b"\x55\x04\x0a" => "O",
        b"\x55\x04\x0b" => "OU",
        b"\x55\x04\x0c" => "title",
        b"\x55\x04\x0d" => "description",
        b"\x55\x04\x11" => "postalCode",
        b"\x55\x04\x2a" => "GN",
        b"\x55\x04\x2b" => "initials",
        b"\x55\x04\x2c" => "generationQualifier",
        b"\x55\x04\x2e" => "dnQualifier",
        b"\x55\x04\x41" => "pseudonym",
        b"\x55\x04\x61" => "organizationIdentifier",
        b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01" => "UID",
        b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19" => "DC",
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01" => "emailAddress",
        _ => return None,
    };
    Some(name)
}

/// The characters of a string; `None` for other values and for malformed ones.
fn decode(value: &[u8]) -> Option<String> {
    let (tag, content, _) = read_element(value)?;
    match tag {
        UTF8_STRING | NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => {
            std::str::from_utf8(content).ok().map(str::to_owned)
        }
        // In practice Latin-1.
        TELETEX_STRING => Some(content.iter().copied().map(char::from).collect()),
        BMP_STRING => {
            let (units, rest) = content.as_chunks::<2>();
            let units = units.iter().copied().map(u16::from_be_bytes);
            let text = char::decode_utf16(units).collect::<Result<_, _>>();
            if rest.is_empty() { text.ok() } else { None }
        }
        UNIVERSAL_STRING => {
            let (units, rest) = content.as_chunks::<4>();
            let units = units.iter().copied().map(u32::from_be_bytes);
            let text = units.map(char::from_u32).collect();
            if rest.is_empty() { text } else { None }
        }
        _ => None,
    }
}

/// A value with the characters that have a meaning in a name escaped (RFC 4514 2.4).
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (position, letter) in value.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', letter]),
            ' ' if position == 0 || position == last => text.push_str("\\ "),
            '#' if position == 0 => text.push_str("\\#"),
            ' '..='~' => text.push(letter),
            _ => letter.encode_utf8(&mut [0; 4]).bytes().for_each(|octet| {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\{octet:02X}");
            }),
        }
    }
    text
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

/// An object identifier as numbers; `None` if it is malformed.
fn dotted(identifier: &[u8]) -> Option<String> {
    let (mut text, mut arc, mut continues) = (String::new(), 0_u128, false);
    for octet in identifier {
        arc = arc.checked_mul(128)? | u128::from(octet & 0x7f);
        continues = octet & 0x80 != 0;
        if continues {
            continue;
        }
        let written = if text.is_empty() {
            let first = (arc / 40).min(2);
            write!(text, "{first}.{}", arc - first * 40)
        } else {
            write!(text, ".{arc}")
        };
        // Writing to a String cannot fail.
        let _ = written;
        arc = 0;
    }
    (!text.is_empty() && !continues).then_some(text)
}

const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;
const SET: u8 = 0x31;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x81, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[element(OBJECT_IDENTIFIER, kind), element(tag, value)].concat())
    }

    fn common_name(tag: u8, value: &[u8]) -> Vec<u8> {
        element(SET, &attribute(b"\x55\x04\x03", tag, value))
    }

    #[test]
    fn last_component_comes_first_and_attributes_are_named() {
        let country = element(SET, &attribute(b"\x55\x04\x06", PRINTABLE_STRING, b"DE"));
        let two = [
            attribute(b"\x55\x04\x0a", UTF8_STRING, b"Acme"),
            attribute(b"\x55\x04\x0b", UTF8_STRING, b"Sales"),
        ];
        let email = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01";
        let email = element(SET, &attribute(email, IA5_STRING, b"a@b.test"));
        let name = [country, element(SET, &two.concat()), email].concat();
        assert_eq!(to_text(&name).as_deref(), Some("emailAddress=a@b.test,OU=Sales+O=Acme,C=DE"));
        assert_eq!(to_text(b"").as_deref(), Some(""));
    }

    #[test]
    fn values_are_escaped_and_ascii() {
        for (value, expected) in [
            ("a,b+c\"d\\e<f>g;h=i", r#"a\,b\+c\"d\\e\<f\>g\;h=i"#),
            (" a b ", r"\ a b\ "),
            (" ", r"\ "),
            ("#1", r"\#1"),
            ("1#", "1#"),
            ("J\u{fc}rgen \u{1f600}", r"J\C3\BCrgen \F0\9F\98\80"),
            ("a\r\nx: y\0", r"a\0D\0Ax: y\00"),
            ("", ""),
        ] {
            let text = to_text(&common_name(UTF8_STRING, value.as_bytes())).unwrap();
            assert_eq!(text, format!("CN={expected}"));
        }
    }

    #[test]
    fn every_kind_of_string_is_read_and_other_values_are_hexadecimal() {
        for (tag, value, expected) in [
            (TELETEX_STRING, &b"J\xfcrgen"[..], r"CN=J\C3\BCrgen"),
            (BMP_STRING, b"\0a\x20\xac", r"CN=a\E2\82\AC"),
            (UNIVERSAL_STRING, b"\0\0\0a\0\x01\xf6\0", r"CN=a\F0\9F\98\80"),
            (UTF8_STRING, b"\xff", "CN=#0C8101FF"),
            (BMP_STRING, b"abc", "CN=#1E8103616263"),
            (0x02, b"\x05", "CN=#02810105"),
        ] {
            assert_eq!(to_text(&common_name(tag, value)).as_deref(), Some(expected));
        }
        let private = element(SET, &attribute(b"\x2b\x06\x01\x04\x01\x83\xd9\x0f\x01", UTF8_STRING, b"x"));
        assert_eq!(to_text(&private).as_deref(), Some("1.3.6.1.4.1.60559.1=#0C810178"));
        assert_eq!(dotted(b"\x88\x37\x03").as_deref(), Some("2.999.3"));
    }

    #[test]
    fn malformed_names_have_no_text() {
        let name = common_name(UTF8_STRING, b"a");
        for length in 1..name.len() {
            assert_eq!(to_text(&name[..length]), None, "{length}");
        }
        assert_eq!(to_text(&element(SET, &attribute(b"", UTF8_STRING, b"a"))), None);
        assert_eq!(to_text(&element(SET, &attribute(b"\x2b\x86", UTF8_STRING, b"a"))), None);
    }

    proptest! {
        #[test]
        fn text_of_any_value_is_printable_ascii(tag in any::<u8>(), value in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(text) = to_text(&common_name(tag, &value)) {
                prop_assert!(text.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(name in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = to_text(&name);
        }
    }
}
