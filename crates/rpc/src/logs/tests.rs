use super::*;
use crate::convert::tests::block_3;
use alloy_primitives::{LogData, address, b256};
use proptest::prelude::*;

const EMITTER: Address = address!("0x7dcd17433742f4c0ca53122ab541d0ba67fc27df");

fn query(json: &str) -> Result<LogQuery, String> {
    LogQuery::parse(json)
}

fn topic(number: u8) -> B256 {
    B256::with_last_byte(number)
}

fn log(topics: &[u8]) -> alloy_primitives::Log {
    let topics = topics.iter().map(|number| topic(*number)).collect();
    alloy_primitives::Log {
        address: EMITTER,
        data: LogData::new_unchecked(topics, Default::default()),
    }
}

#[test]
fn queries_are_read_with_one_or_many_addresses_and_topics() {
    let everything = query("{}").unwrap();
    assert_eq!(everything.blocks, LogBlocks::Range { from: None, to: None });
    assert_eq!(everything.matcher, LogMatcher::default());

    let one =
        query(&format!(r#"{{"address":"{EMITTER}","topics":["{}",null]}}"#, topic(1))).unwrap();
    let many = query(&format!(r#"{{"address":["{EMITTER}"],"topics":[["{}"],[null]]}}"#, topic(1)))
        .unwrap();
    assert_eq!(one.matcher, many.matcher);

    let range =
        query(r#"{"fromBlock":"0x1","toBlock":"latest","address":null,"topics":null}"#).unwrap();
    assert_eq!(
        range.blocks,
        LogBlocks::Range { from: Some(BlockParam::Number(1)), to: Some(BlockParam::Latest) }
    );
}

#[test]
fn contradictory_and_oversized_queries_are_refused_in_geths_words() {
    let hash = b256!("0xf69b05b90b7e50c0b5b9b74d2d63a983dee56dffbbd68a530f026f263d76810c");
    for json in [
        format!(r#"{{"blockHash":"{hash}","fromBlock":"0x3","toBlock":"0x4"}}"#),
        format!(r#"{{"blockHash":"{hash}","toBlock":"0x4"}}"#),
    ] {
        assert_eq!(
            query(&json).unwrap_err(),
            "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other"
        );
    }
    assert_eq!(query(r#"{"topics":[null,null,null,null,null]}"#).unwrap_err(), "exceed max topics");
    let addresses = vec![format!(r#""{EMITTER}""#); ADDRESSES_MAX + 1].join(",");
    assert_eq!(
        query(&format!(r#"{{"address":[{addresses}]}}"#)).unwrap_err(),
        "exceed max addresses"
    );
    for wrong in [
        "7",
        r#""x""#,
        r#"{"address":"0x1"}"#,
        r#"{"topics":"0x"}"#,
        r#"{"topics":[["0x1"]]}"#,
        r#"{"fromBlock":"soon"}"#,
    ] {
        assert!(query(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn topics_match_by_place_with_alternatives_and_wildcards() {
    let matches = |topics: &str, log: &alloy_primitives::Log| {
        query(&format!(r#"{{"topics":{topics}}}"#)).unwrap().matcher.matches(log)
    };
    let (one, two) = (format!(r#""{}""#, topic(1)), format!(r#""{}""#, topic(2)));
    assert!(matches("[]", &log(&[])));
    assert!(matches(&format!("[{one}]"), &log(&[1, 9])));
    assert!(!matches(&format!("[{one}]"), &log(&[])));
    assert!(!matches(&format!("[{one}]"), &log(&[2, 1])));
    assert!(matches(&format!("[null,{one}]"), &log(&[7, 1])));
    assert!(!matches(&format!("[null,{one}]"), &log(&[1])));
    assert!(matches(&format!("[[{one},{two}]]"), &log(&[2])));
    assert!(!matches("[null]", &log(&[])), "a wildcard still wants a topic");
    assert!(matches("[null]", &log(&[5])));
}

#[test]
fn the_bloom_never_hides_a_log_that_matches() {
    let (block, _) = block_3();
    let mut logs = Vec::new();
    crate::convert::for_each_log(&block, false, |_| true, |log| logs.push(log.inner));
    assert!(!logs.is_empty());
    for log in logs {
        let mut topics = log.topics().to_vec();
        loop {
            let matcher = LogMatcher {
                addresses: HashSet::from_iter([log.address]),
                topics: topics.iter().map(|topic| HashSet::from_iter([*topic])).collect(),
            };
            assert!(matcher.matches(&log));
            assert!(matcher.may_match(&block.header.logs_bloom));
            assert!(matcher.in_block(&block, false).iter().any(|found| found.inner == log));
            if topics.pop().is_none() {
                break;
            }
        }
    }
    let elsewhere = LogMatcher {
        addresses: HashSet::from_iter([Address::repeat_byte(0xee)]),
        topics: Vec::new(),
    };
    assert!(elsewhere.in_block(&block, false).is_empty());
}

proptest! {
    #[test]
    fn matching_agrees_with_the_definition(
        wanted in prop::collection::vec(prop::collection::hash_set(0u8..4, 0..3), 0..5),
        topics in prop::collection::vec(0u8..4, 0..5),
    ) {
        let matcher = LogMatcher {
            addresses: HashSet::default(),
            topics: wanted.iter().map(|set| set.iter().map(|number| topic(*number)).collect()).collect(),
        };
        let expected = (0..wanted.len()).all(|place| {
            topics.get(place).is_some_and(|topic| wanted[place].is_empty() || wanted[place].contains(topic))
        });
        prop_assert_eq!(matcher.matches(&log(&topics)), expected);
    }
}
