//! B3, the headers that carry Zipkin's traces (<https://github.com/openzipkin/b3-propagation>):
//! read in both forms, written as several headers.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::ids::Ids;

const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Where in which trace a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The trace, as 16 or 32 hexadecimal digits.
    pub trace_id: String,
    /// The call.
    pub span_id: u64,
    /// The call that made it.
    pub parent: Option<u64>,
    /// Whether it is recorded.
    pub sampled: bool,
    /// Whether the caller wants it recorded whatever the rate.
    pub debug: bool,
}

/// What a request carries; all of it may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// The trace and the span that made the request.
    pub ids: Option<(String, u64)>,
    /// Whether the trace is recorded, where that is decided.
    pub sampled: Option<bool>,
    /// Whether it is to be recorded whatever the rate.
    pub debug: bool,
}

/// Makes the places of calls in traces.
#[derive(Debug)]
pub(super) struct Sampler {
    ids: Ids,
    /// How many of 2^32 new traces are recorded.
    share: u64,
}

impl Carried {
    /// Reads the single header, or else the several. What is malformed counts as absent.
    pub fn read(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(carried) = text(&SINGLE).and_then(Self::single) {
            return carried;
        }
        let ids = trace_id(text(&TRACE_ID)).zip(span_id(text(&SPAN_ID)));
        let debug = text(&FLAGS) == Some("1");
        let sampled = match text(&SAMPLED) {
            _ if debug => Some(true),
            Some("1" | "true") => Some(true),
            Some("0" | "false") => Some(false),
            _ => None,
        };
        Self { ids, sampled, debug }
    }

    /// Reads `{trace}-{span}[-{state}[-{parent}]]`, or a state alone.
    fn single(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let first = parts.next()?;
        let (ids, state) = match parts.next() {
            Some(span) => (Some((trace_id(Some(first))?, span_id(Some(span))?)), parts.next()),
            None => (None, Some(first)),
        };
        let sampled = match state {
            Some("1" | "d") => Some(true),
            Some("0") => Some(false),
            Some(_) => return None,
            None => None,
        };
        Some(Self {
            ids,
            sampled,
            debug: state == Some("d"),
        })
    }
}

impl Context {
    /// Writes the several headers, in place of whatever was there.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.remove(SINGLE);
        headers.remove(FLAGS);
        headers.remove(PARENT);
        if let Ok(trace_id) = HeaderValue::try_from(&self.trace_id) {
            headers.insert(TRACE_ID, trace_id);
        }
        headers.insert(SPAN_ID, hex(self.span_id));
        if let Some(parent) = self.parent {
            headers.insert(PARENT, hex(parent));
        }
        if self.debug {
            headers.remove(SAMPLED);
            headers.insert(FLAGS, HeaderValue::from_static("1"));
        } else {
            headers.insert(
                SAMPLED,
                HeaderValue::from_static(if self.sampled { "1" } else { "0" }),
            );
        }
    }
}

impl Sampler {
    /// Records the share `rate` of the traces that begin here, from 0 to 1.
    pub(super) fn new(rate: f64) -> Self {
        Self {
            ids: Ids::default(),
            // In range, as a cast from a float saturates.
            share: (rate.clamp(0.0, 1.0) * 4_294_967_296.0) as u64,
        }
    }

    /// The place of a call whose request carries `carried`.
    pub(super) fn enter(&self, carried: Carried) -> Context {
        let (trace_id, parent) = match carried.ids {
            Some((trace_id, parent)) => (trace_id, Some(parent)),
            None => (format!("{:032x}", self.ids.long()), None),
        };
        let chosen = || (self.ids.short() >> 32) < self.share;
        Context {
            trace_id,
            span_id: self.ids.short(),
            parent,
            sampled: carried.sampled.unwrap_or_else(chosen),
            debug: carried.debug,
        }
    }

    /// The place of a call that the one at `context` makes.
    pub(super) fn child(&self, context: &Context) -> Context {
        Context {
            span_id: self.ids.short(),
            parent: Some(context.span_id),
            ..context.clone()
        }
    }
}

fn hex(id: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{id:016x}")).expect("invariant: digits are valid in a header")
}

/// 16 or 32 hexadecimal digits, not all 0.
fn trace_id(text: Option<&str>) -> Option<String> {
    let text = text.filter(|text| [16, 32].contains(&text.len()))?;
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits && text.bytes().any(|byte| byte != b'0')).then(|| text.to_ascii_lowercase())
}

/// 16 hexadecimal digits, not all 0.
fn span_id(text: Option<&str>) -> Option<u64> {
    let text = text.filter(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(text, 16).ok().filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn carried(sampled: Option<bool>, debug: bool) -> Carried {
        Carried {
            ids: Some((TRACE.into(), 0xe457_b5a2_e4d8_6bd1)),
            sampled,
            debug,
        }
    }

    #[test]
    fn both_forms_are_read() {
        let single = |value| headers(&[("b3", value)]);
        let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", "e457b5a2e4d86bd1")];
        let several = |pair| headers(&[ids[0], ids[1], pair]);
        for (headers, expected) in [
            (
                single("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90"),
                carried(Some(true), false),
            ),
            (
                single("80f198ee56343ba864fe8b2a57d3eff7-E457B5A2E4D86BD1"),
                carried(None, false),
            ),
            (
                single("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d"),
                carried(Some(true), true),
            ),
            (
                single("0"),
                Carried {
                    sampled: Some(false),
                    ..Carried::default()
                },
            ),
            (several(("x-b3-sampled", "0")), carried(Some(false), false)),
            (several(("x-b3-sampled", "true")), carried(Some(true), false)),
            (several(("x-b3-flags", "1")), carried(Some(true), true)),
            (several(("x-other", "1")), carried(None, false)),
        ] {
            assert_eq!(Carried::read(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn what_is_malformed_counts_as_absent() {
        for pairs in [
            &[("b3", "x-y")][..],
            &[("b3", "80f198ee56343ba8-e457b5a2e4d86bd1-9")],
            &[("x-b3-traceid", TRACE)],
            &[
                ("x-b3-traceid", "00000000000000000000000000000000"),
                ("x-b3-spanid", "e457b5a2e4d86bd1"),
            ],
            &[("x-b3-traceid", TRACE), ("x-b3-spanid", "+457b5a2e4d86bd1")],
        ] {
            assert_eq!(Carried::read(&headers(pairs)), Carried::default(), "{pairs:?}");
        }
    }

    #[test]
    fn a_call_continues_the_trace_and_the_next_hop_is_its_child() {
        let sampler = Sampler::new(0.0);
        let entered = sampler.enter(carried(Some(true), false));
        assert_eq!(
            (entered.trace_id.as_str(), entered.parent),
            (TRACE, Some(0xe457_b5a2_e4d8_6bd1))
        );
        assert!(entered.sampled);
        let mut next = headers(&[("b3", "0"), ("x-b3-flags", "1")]);
        sampler.child(&entered).write(&mut next);
        let read = Carried::read(&next);
        assert_eq!(read.sampled, Some(true));
        let (trace, span) = read.ids.unwrap();
        assert_eq!(trace, TRACE);
        assert_ne!(span, entered.span_id);
        assert_eq!(next["x-b3-parentspanid"], format!("{:016x}", entered.span_id));
    }

    #[test]
    fn the_rate_decides_about_new_traces_only() {
        let share = |rate| {
            let sampler = Sampler::new(rate);
            let sampled = (0..4000).filter(|_| sampler.enter(Carried::default()).sampled);
            sampled.count()
        };
        assert_eq!((share(0.0), share(1.0)), (0, 4000));
        assert!((800..1200).contains(&share(0.25)));
    }

    proptest! {
        #[test]
        fn no_value_makes_reading_fail(value in "[ -~]{0,80}") {
            let mut headers = HeaderMap::new();
            headers.insert("b3", HeaderValue::try_from(&value).unwrap());
            headers.insert("x-b3-traceid", HeaderValue::try_from(&value).unwrap());
            let read = Carried::read(&headers);
            prop_assert!(read.ids.is_none_or(|(trace, _)| trace.len() == 16 || trace.len() == 32));
        }
    }
}
