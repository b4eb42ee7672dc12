//! Codecs: a value becomes bytes, and the bytes become the value.
//!
//! In `src/wire/codec.rs`: `encode`, then `decode`, and last `name`, by which peers agree on a codec.
//!
//! Works then: any value of serde goes through JSON and through bincode, and comes back.
//!
//! Chapter: The wire > In bincode

use super::*;

/// What one side encodes, the other side decodes to the same value, in every codec.
///
/// Texts of any script, numbers at their ends, lists in maps, values that are not there: a codec that loses
/// one of them answers calls wrongly, and reports no error.
///
/// Hint: serde does the work, and each codec has one function for each direction: `serde_json::to_vec` and
/// `from_slice`, `bincode::serde::encode_to_vec` and `decode_from_slice`.
#[test]
fn every_codec_decodes_what_it_encodes() {
    type Value = (Vec<(String, i64)>, Option<f64>, BTreeMap<String, Vec<u8>>, char, bool, (), u64);
    let finite = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    let map = prop::collection::btree_map(any::<String>(), prop::collection::vec(any::<u8>(), 0..20), 0..5);
    let list = prop::collection::vec(any::<(String, i64)>(), 0..5);
    proptest!(proptest_config(), |(list in list, number in prop::option::of(finite), map in map, rest: (char, bool, u64))| {
        let value: Value = (list, number, map, rest.0, rest.1, (), rest.2);
        for codec in Codec::ALL {
            let bytes = codec.encode(&value).unwrap();
            prop_assert_eq!(&codec.decode::<Value>(&bytes).unwrap(), &value);
        }
    });
    // Small on the wire and larger in memory, and well within the limits.
    let numbers: Vec<u64> = (0..300_000).collect();
    for codec in Codec::ALL {
        let bytes = codec.encode(&numbers).unwrap();
        assert!(codec.decode::<Vec<u64>>(&bytes).unwrap() == numbers, "{codec}");
    }
}

/// Bytes that are left over after a value are an error, in every codec.
///
/// bincode stops at the end of the value and says nothing about the rest. But a rest means that the two
/// sides do not agree on the type, and then the value is wrong, too.
///
/// Hint: `decode_from_slice` returns how many bytes it used.
#[test]
fn bytes_left_over_after_a_value_are_an_error() {
    for (codec, wire) in [(Codec::Json, b"300".as_slice()), (Codec::Bincode, b"\xfb\x2c\x01")] {
        assert_eq!(codec.decode::<u64>(wire).unwrap(), 300);
        let more = [wire, b"\x07"].concat();
        let error = codec.decode::<u64>(&more).expect_err("one byte is left over");
        assert!(matches!(error, Error::Decode { codec: named, .. } if named == codec.name()), "{error:?}");
    }
}

/// A codec has a name on the wire, and is found by that name only.
///
/// Each name that a peer is offered must have a codec behind it. GeeRPC names one that does not exist.
///
/// Hint: `from_name` looks through `Codec::ALL`, so it cannot forget one.
#[test]
fn a_codec_is_found_by_its_name_on_the_wire() {
    assert_eq!(Codec::from_name("application/bincode"), Some(Codec::Bincode));
    assert_eq!(Codec::from_name("application/json"), Some(Codec::Json));
    for codec in Codec::ALL {
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
    }
    for name in ["", "json", "application/gob", "application/json ", "APPLICATION/JSON"] {
        assert_eq!(Codec::from_name(name), None, "for {name:?}");
    }
}
