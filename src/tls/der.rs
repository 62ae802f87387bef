//! Reads the fields of a certificate from its DER encoding (RFC 5280 4.1): `webpki` exposes neither the dates nor the
//! key, and reads only version 3.

/// The fields of a certificate that are needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CertificateFields<'a> {
    /// 1 to 3.
    pub(super) version: u8,
    /// The content of the name of the issuer.
    pub(super) issuer: &'a [u8],
    /// The content of the validity.
    pub(super) dates: &'a [u8],
    /// The content of the name of the subject.
    pub(super) subject: &'a [u8],
    /// The SubjectPublicKeyInfo, with its tag and length.
    pub(super) public_key: &'a [u8],
    /// What follows the key: unique identifiers and extensions.
    rest: &'a [u8],
}

impl CertificateFields<'_> {
    /// Whether this is the certificate of an authority (RFC 5280 4.2.1.9). Before version 3 nothing says so: those that
    /// are signed by themselves count.
    pub(super) fn is_of_authority(&self) -> bool {
        if self.version < 3 {
            return self.issuer == self.subject;
        }
        let constraints = self.extension(BASIC_CONSTRAINTS).and_then(|value| read_tagged(value, SEQUENCE));
        let is_authority = constraints.and_then(|(constraints, _)| read_tagged(constraints, BOOLEAN));
        is_authority.is_some_and(|(value, _)| value != [0])
    }

    /// Whether the key may sign handshakes (RFC 5280 4.2.1.3); it may if nothing is said about its usage.
    pub(super) fn may_sign(&self) -> bool {
        let Some(value) = self.extension(KEY_USAGE) else { return true };
        let bits = read_tagged(value, BIT_STRING).and_then(|(bits, _)| bits.get(1));
        bits.is_some_and(|bits| bits & DIGITAL_SIGNATURE != 0)
    }

    /// The value of an extension.
    fn extension(&self, wanted: &[u8]) -> Option<&[u8]> {
        let mut rest = self.rest;
        while let Some((tag, content, after)) = read_element(rest) {
            rest = after;
            if tag != EXTENSIONS {
                continue;
            }
            let (mut extensions, _) = read_tagged(content, SEQUENCE)?;
            while let Some((extension, after)) = read_tagged(extensions, SEQUENCE) {
                extensions = after;
                let (name, mut value) = read_tagged(extension, OBJECT_IDENTIFIER)?;
                if name == wanted {
                    value = read_tagged(value, BOOLEAN).map_or(value, |(_critical, value)| value);
                    return read_tagged(value, OCTET_STRING).map(|(value, _)| value);
                }
            }
        }
        None
    }
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
    // Serial number, algorithm.
    for tag in [INTEGER, SEQUENCE] {
        fields = read_tagged(fields, tag)?.1;
    }
    let (issuer, fields) = read_tagged(fields, SEQUENCE)?;
    let (dates, fields) = read_tagged(fields, SEQUENCE)?;
    let (subject, fields) = read_tagged(fields, SEQUENCE)?;
    let (_, rest) = read_tagged(fields, SEQUENCE)?;
    let public_key = fields.get(..fields.len() - rest.len())?;
    Some(CertificateFields { version, issuer, dates, subject, public_key, rest })
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

const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";

/// The first bit of a key usage.
const DIGITAL_SIGNATURE: u8 = 0x80;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// The content of the first element of `input`, if it has this tag, and the rest of `input`.
pub(super) fn read_tagged(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
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
    fn authorities_are_recognised_by_their_basic_constraints() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (is_ca, expected) in [
            (rcgen::IsCa::NoCa, false),
            (rcgen::IsCa::ExplicitNoCa, false),
            (rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained), true),
            (rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0)), true),
        ] {
            let mut parameters = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            parameters.is_ca = is_ca;
            parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            let certificate = parameters.self_signed(&key).unwrap();
            let fields = certificate_fields(certificate.der()).unwrap();
            assert_eq!(fields.is_of_authority(), expected, "{is_ca:?}");
            let old = |issuer| CertificateFields { version: 1, issuer, ..fields };
            assert!(old(fields.subject).is_of_authority() && !old(b"other").is_of_authority());
        }
    }

    #[test]
    fn usage_of_a_key_tells_whether_it_may_sign() {
        use rcgen::KeyUsagePurpose::{DigitalSignature, KeyEncipherment};
        let key = rcgen::KeyPair::generate().unwrap();
        for (usages, expected) in [
            (vec![], true),
            (vec![DigitalSignature], true),
            (vec![KeyEncipherment], false),
            (vec![KeyEncipherment, DigitalSignature], true),
        ] {
            let mut parameters = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            parameters.key_usages.clone_from(&usages);
            let certificate = parameters.self_signed(&key).unwrap();
            assert_eq!(certificate_fields(certificate.der()).unwrap().may_sign(), expected, "{usages:?}");
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
