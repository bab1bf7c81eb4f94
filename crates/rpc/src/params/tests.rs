use super::*;
use alloy_primitives::{address, b256};
use proptest::prelude::*;

fn args<T>(
    json: Option<&str>,
    most: usize,
    read: impl FnOnce(&mut Args<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    read(&mut Args::new(&Params::new(json), most)?)
}

fn one<T: Argument>(json: &str) -> Result<T, String> {
    args(Some(json), 1, |args| args.required()).map_err(|failure| {
        assert_eq!(failure.code(), -32602, "{failure}");
        failure.to_string()
    })
}

#[test]
fn params_may_be_absent_null_or_empty() {
    for json in [None, Some("null"), Some("[]"), Some(" [ ] ")] {
        assert_eq!(
            args(json, 2, |args| args.or(BlockParam::Latest)),
            Ok(BlockParam::Latest),
            "{json:?}"
        );
    }
    assert_eq!(args(Some("[null]"), 1, |args| args.or(BlockParam::Latest)), Ok(BlockParam::Latest));
}

#[test]
fn missing_surplus_and_named_arguments_are_refused_in_geths_words() {
    let address =
        |json| args(Some(json), 2, |args| args.required::<Address>()).unwrap_err().to_string();
    assert_eq!(address("[]"), "missing value for required argument 0");
    assert_eq!(address("[null]"), "missing value for required argument 0");
    assert_eq!(address("[1,2,3]"), "too many arguments, want at most 2");
    for json in [r#"{"address":1}"#, "7", "true", r#""0x1""#] {
        assert_eq!(address(json), "non-array args");
    }
    assert_eq!(
        address(r#"["0x12"]"#),
        "invalid argument 0: hex string has length 2, want 40 for address"
    );
    assert_eq!(address(r#"["12"]"#), "invalid argument 0: hex string without 0x prefix");
}

#[test]
fn a_thousand_nested_arrays_are_an_error_and_no_overflow() {
    for depth in [1_000, 200_000] {
        let json = format!("[{}{}]", "[".repeat(depth), "]".repeat(depth));
        assert!(one::<alloy_rpc_types_eth::TransactionRequest>(&json).is_err());
        assert!(one::<serde_json::Value>(&json).is_err());
        assert!(one::<BlockParam>(&json).is_err());
    }
}

#[test]
fn blocks_are_named_by_tag_number_hash_or_object() {
    let hash = b256!("0x00000000000000000000000000000000000000000000000000000000deadbeef");
    for (json, expected) in [
        (r#""latest""#.to_owned(), BlockParam::Latest),
        (r#""pending""#.to_owned(), BlockParam::Pending),
        (r#""safe""#.to_owned(), BlockParam::Safe),
        (r#""finalized""#.to_owned(), BlockParam::Finalized),
        (r#""earliest""#.to_owned(), BlockParam::Earliest),
        (r#""0x0""#.to_owned(), BlockParam::Number(0)),
        (r#""0x1b4""#.to_owned(), BlockParam::Number(436)),
        (format!(r#""{hash}""#), BlockParam::Hash(hash)),
        (format!(r#"{{"blockHash":"{hash}"}}"#), BlockParam::Hash(hash)),
        (format!(r#"{{"blockHash":"{hash}","requireCanonical":true}}"#), BlockParam::Hash(hash)),
        (r#"{"blockNumber":"0x10"}"#.to_owned(), BlockParam::Number(16)),
        (r#"{"blockNumber":"latest"}"#.to_owned(), BlockParam::Latest),
    ] {
        assert_eq!(one::<BlockParam>(&format!("[{json}]")), Ok(expected), "{json}");
    }
}

#[test]
fn wrong_blocks_are_refused_in_geths_words() {
    for (json, reason) in [
        (r#""2""#, "hex string without 0x prefix"),
        (r#""newest""#, "hex string without 0x prefix"),
        (r#""""#, "empty hex string"),
        (r#""0x""#, "hex string \"0x\""),
        (r#""0x01""#, "hex number with leading zero digits"),
        (r#""0x-1""#, "invalid hex string"),
        (r#""0xfffffffffffffffff""#, "hex number > 64 bits"),
        (r#""0xffffffffffffffff""#, "block number larger than int64"),
        (
            r#"{"blockHash":"0x1","blockNumber":"0x1"}"#,
            "cannot specify both BlockHash and BlockNumber, choose one or the other",
        ),
        (r#"{"blockHash":"0x1"}"#, "hex string has length 1, want 64 for hash"),
    ] {
        assert_eq!(
            one::<BlockParam>(&format!("[{json}]")),
            Err(format!("invalid argument 0: {reason}")),
            "{json}"
        );
    }
    for json in ["5", "true", "[[]]", "{}", "-1", "1e40"] {
        assert!(one::<BlockParam>(&format!("[{json}]")).is_err(), "{json}");
    }
}

#[test]
fn storage_slots_are_words_or_numbers_of_any_length_up_to_a_word() {
    let slot = |text: &str| Slot::read(text);
    assert_eq!(slot("0x0"), Ok(Slot { index: U256::ZERO, is_word: false }));
    assert_eq!(slot("0x"), Ok(Slot { index: U256::ZERO, is_word: false }));
    assert_eq!(slot(&format!("0x{:064x}", 7)), Ok(Slot { index: U256::from(7), is_word: true }));
    // The texts of the execution-apis test suite.
    assert_eq!(
        one::<Slot>(r#"["0xasdf"]"#).unwrap_err(),
        r#"invalid hex in storage key: "0xasdf""#
    );
    let long = format!("0x{}", "0".repeat(65));
    assert_eq!(
        one::<Slot>(&format!(r#"["{long}"]"#)).unwrap_err(),
        format!("storage key too long (want at most 32 bytes): {long:?}")
    );
}

#[test]
fn numbers_are_read_as_numbers_hex_or_decimal_strings() {
    for json in ["10000", r#""0x2710""#, r#""10000""#] {
        assert_eq!(one::<Number>(&format!("[{json}]")), Ok(Number(10_000)));
        assert_eq!(one::<U256>(&format!("[{json}]")), Ok(U256::from(10_000)));
    }
    for json in
        ["-1", "0.5", "1e300", r#""""#, r#""0x""#, r#""ten""#, r#""0x1ffffffffffffffff""#, "[]"]
    {
        assert!(one::<Number>(&format!("[{json}]")).is_err(), "{json}");
    }
}

#[test]
fn addresses_hashes_and_bytes_are_read_with_any_case() {
    assert_eq!(
        one::<Address>(r#"["0xD3CdA913deB6f67967B99D67aCDFa1712C293601"]"#),
        Ok(address!("0xd3cda913deb6f67967b99d67acdfa1712c293601"))
    );
    assert_eq!(one::<Bytes>(r#"["0xAbCd"]"#), Ok(Bytes::from_static(&[0xab, 0xcd])));
    assert_eq!(one::<Bytes>(r#"["0x"]"#), Ok(Bytes::new()));
    assert_eq!(
        one::<Bytes>(r#"["0xabc"]"#).unwrap_err(),
        "invalid argument 0: hex string of odd length"
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC*", most in 0usize..4) {
        let params = Params::new(Some(&text));
        if let Ok(mut args) = Args::new(&params, most) {
            let _ = args.optional::<BlockParam>();
            let _ = args.optional::<Address>();
            let _ = args.optional::<Number>();
        }
        let _ = Slot::read(&text);
        let _ = BlockParam::read(&text);
        let _ = wide(&text);
    }
}
