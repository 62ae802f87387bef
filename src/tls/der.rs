//! Reads the fields of a certificate from its DER encoding (RFC 5280 4.1): `webpki` exposes neither the dates nor the key,
//! and reads only version 3.

/// The fields of a certificate that are needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CertificateFields<'a> {
    /// 1 to 3.
    pub(super) version: u8,
    /// The content of the validity.
    pub(super) dates: &'a [u8],
    /// The SubjectPublicKeyInfo, with its tag and length.
    pub(super) public_key: &'a [u8],
}

/// Reads a certificate; `None` if it is malformed.
pub(super) fn certificate_fields(certificate: &[u8]) -> Option<CertificateFields<'_>> {
    let (signed, _) = read_tagged(certificate, SEQUENCE)?;
    let (mut fields, _) = read_tagged(signed, SEQUENCE)?;
    let mut version = 1;
    if let Some((number, rest)) = read_tagged(fields, VERSION) {
        let (number, _) = read_tagged(number, INTEGER)?;
        version = number.last()?.checked_add(1)?;
        fields = rest;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = read_tagged(fields, tag)?.1;
    }
    let (dates, fields) = read_tagged(fields, SEQUENCE)?;
    let (_subject, fields) = read_tagged(fields, SEQUENCE)?;
    let (_, rest) = read_tagged(fields, SEQUENCE)?;
    let public_key = fields.get(..fields.len() - rest.len())?;
    Some(CertificateFields { version, dates, public_key })
}

/// The kind of a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyKind {
    /// For example `RSA with 2048 bits`.
    pub(super) description: String,
    /// The cryptography provider can sign with such a key.
    pub(super) supported: bool,
}

/// The kind of the key in a SubjectPublicKeyInfo; `None` if it is malformed.
pub(super) fn key_kind(public_key: &[u8]) -> Option<KeyKind> {
    let (content, _) = read_tagged(public_key, SEQUENCE)?;
    let (algorithm, content) = read_tagged(content, SEQUENCE)?;
    let (name, parameters) = read_tagged(algorithm, OBJECT_IDENTIFIER)?;
    let kind = |description: &str, supported| KeyKind { description: description.to_owned(), supported };
    Some(match name {
        RSA => {
            let (bits, _) = read_tagged(content, BIT_STRING)?;
            let (key, _) = read_tagged(bits.get(1..)?, SEQUENCE)?;
            let (modulus, _) = read_tagged(key, INTEGER)?;
            let significant = modulus.iter().skip_while(|octet| **octet == 0).count();
            let first = modulus.iter().find(|octet| **octet != 0)?;
            let bits = significant * 8 - first.leading_zeros() as usize;
            kind(&format!("RSA with {bits} bits"), (2048..=8192).contains(&bits))
        }
        ELLIPTIC_CURVE => match read_tagged(parameters, OBJECT_IDENTIFIER).map(|(curve, _)| curve) {
            Some(P256) => kind("ECDSA with P-256", true),
            Some(P384) => kind("ECDSA with P-384", true),
            Some(P521) => kind("ECDSA with P-521", false),
            Some(_) | None => kind("ECDSA with another curve than P-256 and P-384", false),
        },
        ED25519 => kind("Ed25519", true),
        ED448 => kind("Ed448", false),
        DSA => kind("DSA", false),
        RSA_PSS => kind("RSA that is restricted to PSS", false),
        _ => kind("of an unknown algorithm", false),
    })
}

const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const RSA_PSS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
const DSA: &[u8] = b"\x2a\x86\x48\xce\x38\x04\x01";
const ELLIPTIC_CURVE: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
const P256: &[u8] = b"\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x2b\x81\x04\x00\x22";
const P521: &[u8] = b"\x2b\x81\x04\x00\x23";
const ED25519: &[u8] = b"\x2b\x65\x70";
const ED448: &[u8] = b"\x2b\x65\x71";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The content of the first element of `input`, if it has this tag, and the rest of `input`.
fn read_tagged(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (actual_tag, content, rest) = read_element(input)?;
    (actual_tag == tag).then_some((content, rest))
}

/// The tag and content of the first element of `input`, and the rest of `input`.
pub(super) fn read_element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn version_and_key_of_a_certificate_are_read() {
        for (algorithm, expected) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA with P-256"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA with P-384"),
            (&rcgen::PKCS_ED25519, "Ed25519"),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let parameters = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            let fields = certificate_fields(certificate.der()).unwrap();
            assert_eq!(fields.version, 3);
            assert_eq!(
                key_kind(fields.public_key).unwrap(),
                KeyKind { description: expected.to_owned(), supported: true }
            );
            for length in 0..certificate.der().len().min(100) {
                assert_eq!(certificate_fields(&certificate.der()[..length]), None);
            }
        }
    }

    #[test]
    fn size_of_an_rsa_key_is_that_of_its_modulus() {
        for (octets, bits, supported) in [(128, 1024, false), (256, 2048, true), (1025, 8200, false)] {
            let modulus = [vec![0], vec![0x80; octets]].concat();
            let key = element(SEQUENCE, &[element(INTEGER, &modulus), element(INTEGER, &[1, 0, 1])].concat());
            let algorithm = element(SEQUENCE, &element(OBJECT_IDENTIFIER, RSA));
            let bit_string = element(BIT_STRING, &[vec![0], key].concat());
            let public_key = element(SEQUENCE, &[algorithm, bit_string].concat());
            let description = format!("RSA with {bits} bits");
            assert_eq!(key_kind(&public_key), Some(KeyKind { description, supported }));
        }
    }

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], content].concat()
    }
}
