//! Addresses that read back, and the errors that people will see.

use proptest::prelude::*;

use super::*;

const ZERO: &str = "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy";

/// The reference: five bits at a time out of one long string of bits.
fn encode_naively(key: &[u8; 32]) -> String {
    let mut bits: Vec<u8> =
        key.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    bits.extend([0; 4]);
    let value = |five: &[u8]| five.iter().fold(0, |value, bit| value << 1 | usize::from(*bit));
    bits.chunks(5).map(|five| char::from(ALPHABET[value(five)])).collect()
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Host::V4(bits.into())),
        any::<u128>().prop_map(|bits| Host::V6(bits.into())),
        "[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?(\\.[A-Z][a-z]{0,9}){0,3}\\.[a-z]{1,5}\\.?".prop_map(Host::Name),
    ]
}

proptest! {
    /// spec: atp/identity
    #[test]
    fn ids_come_back_in_either_case(key: [u8; 32]) {
        let text = NodeId(key).to_string();
        prop_assert_eq!(&text, &encode_naively(&key));
        prop_assert_eq!(text.len(), ID_LEN);
        prop_assert_eq!(text.parse(), Ok(NodeId(key)));
        prop_assert_eq!(text.to_uppercase().parse(), Ok(NodeId(key)));
    }

    /// Every key has one spelling: another last character is another key or none.
    #[test]
    fn an_id_has_one_spelling(key: [u8; 32], last in 0usize..32) {
        let mut text = NodeId(key).to_string();
        text.pop();
        text.push(char::from(ALPHABET[last]));
        match text.parse::<NodeId>() {
            Ok(id) => prop_assert_eq!(id.to_string(), text),
            Err(error) => {
                prop_assert_eq!(error.position, 52);
                prop_assert!(last % 16 != 0);
            }
        }
    }

    #[test]
    fn uris_come_back(id in prop::option::of(any::<[u8; 32]>()), host in host(), port in 1u16..) {
        let uri = DunlinUri { id: id.map(NodeId), host, port };
        prop_assert_eq!(uri.to_string().parse(), Ok(uri));
    }

    #[test]
    fn any_text_is_borne(text in "\\PC{0,40}", shape in 0u8..4) {
        let text = match shape {
            0 => text,
            1 => format!("dunlin://{text}"),
            2 => format!("{ZERO}@{text}"),
            _ => format!("[{text}"),
        };
        match text.parse::<DunlinUri>() {
            Ok(uri) => prop_assert_eq!(uri.to_string().parse(), Ok(uri)),
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.position), "{error}"),
        }
    }
}

fn uri(text: &str) -> DunlinUri {
    text.parse().unwrap()
}

#[test]
fn every_form_is_read() {
    let with_id = DunlinUri { id: Some(NodeId([0; 32])), host: Host::Name("example.org".into()), port: 7117 };
    assert_eq!(uri(&format!("dunlin://{ZERO}@example.org")), with_id);
    assert_eq!(uri(&format!("DUNLIN://{}@example.org:7117", ZERO.to_uppercase())), with_id);
    assert_eq!(uri(&format!("{ZERO}@example.org")), with_id);
    assert_eq!(uri("127.0.0.1:9"), DunlinUri { id: None, host: Host::V4(Ipv4Addr::LOCALHOST), port: 9 });
    assert_eq!(
        uri("dunlin://[::1]"),
        DunlinUri { id: None, host: Host::V6(Ipv6Addr::LOCALHOST), port: 7117 }
    );
    assert_eq!(uri("localhost:65535").port, 65_535);
    assert_eq!(uri("[::1]:80").to_string(), "[::1]:80");
}

/// What people see: the place and the remedy.
#[test]
fn every_error_names_the_place() {
    let id_at = |text: &str| format!("dunlin://{text}@example.org");
    let cases = [
        (String::new(), 1, UriFault::Empty),
        ("http://example.org".into(), 1, UriFault::Scheme),
        (id_at(&ZERO[1..]), 61, UriFault::IdLength { found: 51 }),
        (id_at(&ZERO.replacen("yy", "yl", 1)), 11, UriFault::IdCharacter { found: 'l' }),
        (id_at(&ZERO.replacen("yy", "yé", 1)), 11, UriFault::IdCharacter { found: 'é' }),
        (id_at(&format!("{}b", &ZERO[1..])), 61, UriFault::IdPadding { found: 'b' }),
        (id_at(""), 10, UriFault::IdLength { found: 0 }),
        (format!("dunlin://{ZERO}"), 62, UriFault::IdAlone),
        (format!("{ZERO}@"), 54, UriFault::HostMissing),
        (format!("{ZERO}@:7117"), 54, UriFault::HostMissing),
        ("example..org".into(), 9, UriFault::HostLength),
        (format!("{}.org", "a".repeat(64)), 1, UriFault::HostLength),
        ("exa mple.org".into(), 4, UriFault::HostCharacter { found: ' ' }),
        ("example.org/path".into(), 12, UriFault::HostCharacter { found: '/' }),
        ("-example.org".into(), 1, UriFault::HostCharacter { found: '-' }),
        ("example-.org".into(), 8, UriFault::HostCharacter { found: '-' }),
        ("256.0.0.1:80".into(), 1, UriFault::Ipv4),
        ("127.1".into(), 1, UriFault::Ipv4),
        ("[::g]:80".into(), 2, UriFault::Ipv6),
        ("[fe80::1%eth0]".into(), 2, UriFault::Ipv6),
        ("::1".into(), 1, UriFault::Brackets),
        ("[::1".into(), 1, UriFault::Brackets),
        ("[::1]80".into(), 6, UriFault::Port),
        ("localhost:".into(), 11, UriFault::Port),
        ("localhost:0".into(), 11, UriFault::Port),
        ("localhost:65536".into(), 11, UriFault::Port),
        ("localhost:80/".into(), 13, UriFault::Port),
        ("localhost:+80".into(), 11, UriFault::Port),
        ("[::1]:8x".into(), 8, UriFault::Port),
    ];
    for (text, position, fault) in cases {
        assert_eq!(text.parse::<DunlinUri>(), Err(UriError { position, fault }), "{text}");
    }
    let error = "localhost:0".parse::<DunlinUri>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "at character 11: a port is a number from 1 to 65535; write it, or leave it and its colon out for 7117"
    );
}
