//! Random parameters that look like what methods take.

use serde_json::{Value, json};

use crate::support::{ALICE, BOB};

/// SplitMix64 (Steele, Lea, Flood 2014): every seed gives another run, and the same one again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn hex(&mut self, bytes: usize) -> String {
        let digits = (0..bytes).map(|_| format!("{:02x}", self.next() as u8)).collect::<String>();
        format!("0x{digits}")
    }
}

/// What the chain has that parameters can name.
pub(crate) struct Known {
    pub(crate) hashes: Vec<String>,
    pub(crate) addresses: Vec<String>,
    pub(crate) raw: Vec<String>,
}

/// What kind of parameter a method takes somewhere.
#[derive(Clone, Copy)]
enum Kind {
    Address,
    Hash,
    Block,
    Quantity,
    Bool,
    Bytes,
    Raw,
    Slots,
    Call,
    Calls,
    StateOverrides,
    BlockOverrides,
    Filter,
    TraceOptions,
    TraceTypes,
    TypedData,
    Percentiles,
    Simulation,
    Attributes,
    Text,
    Anything,
}
use Kind::{
    Address, Anything, Attributes, Block, BlockOverrides, Bool, Bytes, Call, Calls, Filter, Hash,
    Percentiles, Quantity, Raw, Simulation, Slots, StateOverrides, Text, TraceOptions, TraceTypes,
    TypedData,
};

/// What a method takes; methods that are not here are guessed at.
fn kinds(method: &str) -> &'static [Kind] {
    match method {
        "eth_getBalance"
        | "eth_getTransactionCount"
        | "eth_getCode"
        | "eth_getAccountInfo"
        | "eth_getAccount"
        | "ots_hasCode" => &[Address, Block],
        "eth_getStorageAt" => &[Address, Quantity, Block],
        "eth_getProof" => &[Address, Slots, Block],
        "eth_call" | "eth_estimateGas" | "eth_createAccessList" => {
            &[Call, Block, StateOverrides, BlockOverrides]
        }
        "eth_simulateV1" => &[Simulation, Block],
        "eth_callMany" | "debug_traceCallMany" => &[Calls, Anything, StateOverrides],
        "heddle_predictConflicts" => &[Calls],
        "heddle_getHotLocations" => &[Block, Block, Quantity],
        "eth_getLogs" | "eth_newFilter" | "trace_filter" => &[Filter],
        "eth_feeHistory" => &[Quantity, Block, Percentiles],
        "eth_sendRawTransaction" => &[Raw],
        "eth_sendTransaction"
        | "eth_signTransaction"
        | "eth_fillTransaction"
        | "eth_sendUnsignedTransaction" => &[Call],
        "eth_sign" => &[Address, Bytes],
        "personal_sign" => &[Bytes, Address],
        "eth_signTypedData_v4" => &[Address, TypedData],
        "debug_traceCall" => &[Call, Block, TraceOptions],
        "debug_traceTransaction" => &[Hash, TraceOptions],
        "debug_traceBlockByNumber" | "debug_traceBlockByHash" => &[Block, TraceOptions],
        "debug_traceBlock" => &[Raw, TraceOptions],
        "debug_storageRangeAt" => &[Hash, Quantity, Address, Bytes, Quantity],
        "debug_accountRange" => &[Block, Bytes, Quantity, Bool, Bool, Bool],
        "trace_call" => &[Call, TraceTypes, Block, StateOverrides, BlockOverrides],
        "trace_callMany" => &[Calls, Block],
        "trace_rawTransaction" => &[Raw, TraceTypes, Block],
        "trace_replayTransaction" | "trace_replayBlockTransactions" => &[Hash, TraceTypes],
        "testing_buildBlockV1" => &[Hash, Attributes, Raw, Bytes],
        "testing_commitBlockV1" => &[Attributes, Raw, Bytes],
        "web3_sha3" => &[Bytes],
        "ots_searchTransactionsBefore" | "ots_searchTransactionsAfter" => {
            &[Address, Quantity, Quantity]
        }
        "anvil_setBalance" | "anvil_addBalance" | "anvil_setNonce" => &[Address, Quantity],
        "eth_subscribe" => &[Text, Filter],
        "eth_unsubscribe" | "evm_revert" => &[Quantity],
        "anvil_mine" | "hardhat_mine" | "evm_setTime" | "evm_increaseTime" => &[Quantity, Quantity],
        "anvil_reorg" => &[Quantity, Calls],
        "anvil_rollback" | "anvil_setNextBlockBaseFeePerGas" | "anvil_setBlockGasLimit" => {
            &[Quantity]
        }
        "anvil_impersonateAccount" | "anvil_setCoinbase" => &[Address],
        "anvil_loadState" => &[Bytes],
        "anvil_setCode" => &[Address, Bytes],
        "anvil_setStorageAt" => &[Address, Quantity, Hash],
        "anvil_dealERC20" => &[Address, Address, Quantity],
        _ if method.contains("ByBlock") => &[Block, Quantity],
        _ if method.contains("BlockBy") || method.contains("HeaderBy") => &[Block, Bool],
        _ if method.contains("Transaction") || method.contains("Hash") => &[Hash, Quantity],
        _ if method.contains("lock") || method.contains("Raw") => &[Block, Quantity],
        _ => &[Anything, Anything],
    }
}

impl Known {
    fn value(&self, random: &mut Random, kind: Kind) -> Value {
        if random.one_in(8) {
            return odd(random, 0);
        }
        let kind = match kind {
            Anything => *random
                .pick(&[Address, Hash, Block, Quantity, Bool, Bytes, Call, Filter, Text, Slots]),
            kind => kind,
        };
        match kind {
            Address => match random.below(4) {
                0 => json!(random.hex(20)),
                1 => json!(format!("0x{:040x}", random.below(32))),
                _ => json!(random.pick(&self.addresses)),
            },
            Hash => match random.below(3) {
                0 => json!(random.hex(32)),
                _ => json!(random.pick(&self.hashes)),
            },
            Block => match random.below(6) {
                0 => self.value(random, Hash),
                1 => {
                    json!({"blockHash": self.value(random, Hash), "requireCanonical": random.one_in(2)})
                }
                2 => json!({"blockNumber": self.value(random, Quantity)}),
                3 => self.value(random, Quantity),
                _ => json!(random.pick(&["latest", "pending", "earliest", "safe", "finalized"])),
            },
            Quantity => match random.below(8) {
                0 => json!(format!("{:#x}", random.next())),
                1 => json!(format!("{:#x}", u64::MAX)),
                2 => json!(format!("0x{}", "f".repeat(1 + random.below(70)))),
                3 => json!(random.below(100)),
                4 => json!(format!("{}", random.next())),
                _ => json!(format!("{:#x}", random.below(16))),
            },
            Bool => json!(random.one_in(2)),
            Bytes => {
                let length = random.below(100);
                json!(random.hex(length))
            }
            Raw => {
                let mut raw = random.pick(&self.raw).clone();
                match random.below(4) {
                    0 => raw.truncate(2 + 2 * random.below(raw.len() / 2)),
                    1 => raw.push_str("00"),
                    2 => {
                        let at = 2 + random.below(raw.len() - 2);
                        raw.replace_range(at..=at, "7");
                    }
                    _ => {}
                }
                if random.one_in(3) { json!([raw]) } else { json!(raw) }
            }
            Slots => {
                let slots: Vec<_> =
                    (0..random.below(5)).map(|_| self.value(random, Quantity)).collect();
                if random.one_in(4) { json!({ALICE: slots}) } else { json!(slots) }
            }
            Call => self.call(random),
            Calls => {
                let calls = (0..random.below(4)).map(|_| match random.below(3) {
                    0 => json!({"transactions": [self.call(random), self.call(random)],
                        "blockOverride": self.value(random, BlockOverrides)}),
                    1 => json!([self.call(random), self.value(random, TraceTypes)]),
                    _ => self.call(random),
                });
                calls.collect()
            }
            StateOverrides => {
                let account = self.optional(
                    random,
                    &[
                        ("balance", Quantity),
                        ("nonce", Quantity),
                        ("code", Bytes),
                        ("movePrecompileToAddress", Address),
                    ],
                );
                let mut account = account;
                if random.one_in(2) {
                    let slot = random.hex(32);
                    account[*random.pick(&["state", "stateDiff"])] =
                        json!({slot: self.value(random, Hash)});
                }
                json!({self.value(random, Address).as_str().unwrap_or(BOB): account})
            }
            BlockOverrides => self.optional(
                random,
                &[
                    ("number", Quantity),
                    ("time", Quantity),
                    ("gasLimit", Quantity),
                    ("feeRecipient", Address),
                    ("prevRandao", Hash),
                    ("baseFeePerGas", Quantity),
                    ("blobBaseFee", Quantity),
                    ("difficulty", Quantity),
                    ("beaconRoot", Hash),
                ],
            ),
            Filter => {
                let mut filter = self.optional(
                    random,
                    &[
                        ("fromBlock", Block),
                        ("toBlock", Block),
                        ("blockHash", Hash),
                        ("address", Address),
                        ("fromAddress", Slots),
                        ("after", Quantity),
                        ("count", Quantity),
                    ],
                );
                if random.one_in(2) {
                    let topics: Vec<_> = (0..random.below(6))
                        .map(|_| match random.below(3) {
                            0 => Value::Null,
                            1 => json!([self.value(random, Hash), null]),
                            _ => self.value(random, Hash),
                        })
                        .collect();
                    filter["topics"] = json!(topics);
                }
                filter
            }
            TraceOptions => {
                let tracer = *random.pick(&[
                    "callTracer",
                    "prestateTracer",
                    "4byteTracer",
                    "flatCallTracer",
                    "muxTracer",
                    "noopTracer",
                    "erc7562Tracer",
                    "{result: 1}",
                    "",
                ]);
                let mut options = self.optional(
                    random,
                    &[
                        ("enableMemory", Bool),
                        ("disableStack", Bool),
                        ("disableStorage", Bool),
                        ("enableReturnData", Bool),
                        ("limit", Quantity),
                        ("txIndex", Quantity),
                        ("stateOverrides", StateOverrides),
                        ("blockOverrides", BlockOverrides),
                    ],
                );
                if random.one_in(2) {
                    options["tracer"] = json!(tracer);
                }
                if random.one_in(3) {
                    options["tracerConfig"] = json!({"onlyTopCall": random.one_in(2), "withLog": true,
                        "diffMode": random.one_in(2), "callTracer": {}, "prestateTracer": null});
                }
                if random.one_in(5) {
                    options["timeout"] =
                        json!(random.pick(&["1ms", "5s", "-1s", "99999999999h", "", "1µs"]));
                }
                options
            }
            TraceTypes => {
                let types = ["trace", "vmTrace", "stateDiff", "nonsense"];
                (0..random.below(4)).map(|_| json!(random.pick(&types))).collect()
            }
            TypedData => json!({
                "types": {"EIP712Domain": [{"name": "chainId", "type": "uint256"}],
                    "A": [{"name": "b", "type": random.pick(&["A", "A[]", "uint256", "bytes33", "string[2]", "Z", ""])}]},
                "primaryType": random.pick(&["A", "EIP712Domain", "Z"]),
                "domain": {"chainId": self.value(random, Quantity)},
                "message": {"b": odd(random, 0)},
            }),
            Percentiles => (0..random.below(4))
                .map(|_| json!(random.pick(&[0.0, 50.0, 100.0, -1.0, 1e300, 0.5])))
                .collect(),
            Simulation => {
                let blocks: Vec<_> = (0..random.below(3))
                    .map(|_| {
                        json!({
                            "blockOverrides": self.value(random, BlockOverrides),
                            "stateOverrides": self.value(random, StateOverrides),
                            "calls": [self.call(random), self.call(random)],
                        })
                    })
                    .collect();
                json!({"blockStateCalls": blocks, "traceTransfers": random.one_in(2), "validation": random.one_in(2),
                    "returnFullTransactions": random.one_in(2)})
            }
            Attributes => self.optional(
                random,
                &[
                    ("timestamp", Quantity),
                    ("prevRandao", Hash),
                    ("suggestedFeeRecipient", Address),
                    ("withdrawals", Slots),
                    ("parentBeaconBlockRoot", Hash),
                ],
            ),
            Text => json!(random.pick(&[
                "newHeads",
                "logs",
                "newPendingTransactions",
                "syncing",
                "",
                "\u{0}",
                "é😀"
            ])),
            Anything => Value::Null,
        }
    }

    fn call(&self, random: &mut Random) -> Value {
        let mut call = self.optional(
            random,
            &[
                ("from", Address),
                ("to", Address),
                ("gas", Quantity),
                ("gasPrice", Quantity),
                ("value", Quantity),
                ("maxFeePerGas", Quantity),
                ("maxPriorityFeePerGas", Quantity),
                ("nonce", Quantity),
                ("input", Bytes),
                ("data", Bytes),
                ("chainId", Quantity),
                ("type", Quantity),
                ("maxFeePerBlobGas", Quantity),
                ("blobVersionedHashes", Slots),
                ("accessList", Anything),
                ("authorizationList", Anything),
            ],
        );
        if random.one_in(2) {
            call["from"] = json!(ALICE);
            call.as_object_mut().expect("built as one").remove("gasPrice");
        }
        // Code instead of data, some of it endless or hungry for memory.
        if random.one_in(4) {
            call.as_object_mut().expect("built as one").remove("to");
            call["data"] = json!(random.pick(&[
                "0x5b600056",
                "0x7fffffffffffffffff600052",
                "0x60016000526001601ff3",
                "0x63ffffffff6000f3",
                "0x6000600060006000600030615af1f4",
                "0x60ff60005260206000a0",
                "0xfe",
                "0x5b5a5a5a600056",
            ]));
        }
        call
    }

    /// An object with some of these fields.
    fn optional(&self, random: &mut Random, fields: &[(&str, Kind)]) -> Value {
        let mut object = json!({});
        for (name, kind) in fields {
            if random.one_in(4) {
                object[*name] = self.value(random, *kind);
            }
        }
        object
    }

    pub(crate) fn request(&self, random: &mut Random, method: &str, id: u64) -> Value {
        let mut params: Vec<_> =
            kinds(method).iter().map(|kind| self.value(random, *kind)).collect();
        match random.below(12) {
            0 => params.truncate(random.below(params.len() + 1)),
            1 => params.push(odd(random, 0)),
            2 => {
                let at = random.below(params.len());
                params[at] = odd(random, 0);
            }
            3 => params.clear(),
            _ => {}
        }
        let params = match random.below(30) {
            0 => odd(random, 0),
            _ => json!(params),
        };
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }
}

/// A value that fits nowhere.
fn odd(random: &mut Random, depth: usize) -> Value {
    match random.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1e308),
        5 => json!(0.1),
        6 => json!(""),
        7 => json!("0x"),
        8 => json!(format!("0x{}", "0".repeat(random.below(200)))),
        9 => json!("x".repeat(random.below(5_000))),
        10 => json!("\u{0}\u{feff}\u{10ffff}"),
        11 if depth < 6 => (0..random.below(4)).map(|_| odd(random, depth + 1)).collect(),
        12 if depth < 6 => json!({"to": odd(random, depth + 1), "": odd(random, depth + 1)}),
        13 => (0..random.below(120)).fold(json!([]), |inner, _| json!([inner])),
        14 => json!(format!("-{:#x}", random.next())),
        _ => json!("0xg1"),
    }
}
