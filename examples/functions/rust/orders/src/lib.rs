//! The function `orders`: takes orders, with the runtime's sequencer, lock, configuration and
//! publish/subscribe. The body of a request, or its query, is what is ordered.
//!
//! Every unary method of the runtime API can be called so: its protobuf message goes in, that of the
//! reply comes out. The few fields that this function needs are written and read by hand; larger
//! ones are work for a crate such as `prost`.

mod protobuf;

use proxy_wasm::hostcalls::call_foreign_function;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, Status};

use protobuf::{field, find_bytes, find_number, number};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Orders { context }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Orders {
    context: u32,
}

impl Context for Orders {}

impl HttpContext for Orders {
    fn on_http_request_body(&mut self, length: usize, _: bool) -> Action {
        let goods = self.get_http_request_body(0, length).unwrap_or_default();
        let owner = format!("orders-{}", self.context);
        match order(&goods, &owner) {
            Ok(answer) => {
                self.set_http_response_body(0, 0, answer.as_bytes());
                Action::Continue
            }
            Err(Failure::Busy) => {
                self.send_http_response(409, vec![], Some(b"another order of it is under way"));
                Action::Pause
            }
            Err(Failure::Runtime(method, status)) => {
                log::error!("{method} failed: {status:?}");
                self.send_http_response(502, vec![], Some(format!("{method} failed").as_bytes()));
                Action::Pause
            }
        }
    }
}

enum Failure {
    Busy,
    Runtime(&'static str, Status),
}

fn order(goods: &[u8], owner: &str) -> Result<String, Failure> {
    let lock = [
        field(1, b"lock_demo"),
        field(2, goods),
        field(3, owner.as_bytes()),
    ]
    .concat();
    let taken = call("layotto.TryLock", &[lock.clone(), number(4, 10)].concat())?;
    if find_number(&taken, 1) != Some(1) {
        return Err(Failure::Busy);
    }
    let ordered = take(goods);
    call("layotto.Unlock", &lock)?;
    ordered
}

fn take(goods: &[u8]) -> Result<String, Failure> {
    let next = [field(1, b"sequencer_demo"), field(2, b"orders")].concat();
    let next = call("layotto.GetNextId", &next)?;
    let order = find_number(&next, 1).unwrap_or_default();
    let wanted = [
        field(1, b"config_demo"),
        field(2, b"orders"),
        field(5, b"thanks"),
    ]
    .concat();
    let found = call("layotto.GetConfiguration", &wanted)?;
    let thanks = find_bytes(&found, 1).and_then(|item| find_bytes(item, 2));
    let event = format!(r#"{{"order": {order}, "goods": {:?}}}"#, String::from_utf8_lossy(goods));
    let publish = [
        field(1, b"pub_subs_demo"),
        field(2, b"orders"),
        field(3, event.as_bytes()),
        field(4, b"application/json"),
    ]
    .concat();
    call("layotto.PublishEvent", &publish)?;
    let thanks = String::from_utf8_lossy(thanks.unwrap_or(b"Thanks")).into_owned();
    Ok(format!("{thanks}: order {order} of {}", String::from_utf8_lossy(goods)))
}

fn call(method: &'static str, request: &[u8]) -> Result<Vec<u8>, Failure> {
    let reply = call_foreign_function(method, Some(request));
    let reply = reply.map_err(|status| Failure::Runtime(method, status))?;
    Ok(reply.unwrap_or_default())
}
