//! The host functions of module `env`, of every version of the ABI: one table for all guests.
//!
//! A function answers a number of [`Status`], 0 for OK. The statuses are those of the specification of
//! 0.2.1, also for guests of older versions.

mod buffer;
mod call;
pub(crate) mod control;
mod grpc;
mod layotto;
mod log;
mod map;
mod metric;
mod property;
mod shared;
#[cfg(test)]
mod tests;

use wasmtime::Linker;

use crate::{
    abi::Status,
    guest::Guest,
    memory::{Cx, Fail, Outcome},
};

/// Fills a linker: functions that answer at once, and those that wait, if only for the guest's
/// allocator.
macro_rules! table {
    ($linker:ident: $($how:ident $name:literal ($($p:ident),*) => $f:path;)*) => {
        $(table!(@$how $linker, $name, ($($p),*), $f);)*
    };
    (@now $linker:ident, $name:literal, ($($p:ident),*), $f:path) => {
        $linker.func_wrap("env", $name, |mut cx: Cx<'_>, $($p),*| {
            if let Some(refused) = refused(&cx, $name) {
                return Ok(refused);
            }
            number($f(&mut cx, $($p),*))
        })?;
    };
    (@wait $linker:ident, $name:literal, ($($p:ident),*), $f:path) => {
        $linker.func_wrap_async("env", $name, |mut cx: Cx<'_>, ($($p,)*)| {
            Box::new(async move {
                if let Some(refused) = refused(&cx, $name) {
                    return Ok(refused);
                }
                number($f(&mut cx, $($p),*).await)
            })
        })?;
    };
}

/// Defines all of them.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    table! { linker:
        now "proxy_log" (level, ptr, len) => log::log;
        now "proxy_get_log_level" (level) => log::level;

        wait "proxy_get_buffer_bytes" (kind, start, max, ptr, len) => buffer::get;
        now "proxy_set_buffer_bytes" (kind, start, size, ptr, len) => buffer::set;
        now "proxy_get_buffer_status" (kind, len, flags) => buffer::status;
        wait "proxy_get_configuration" (ptr, len) => buffer::configuration;

        now "proxy_get_header_map_size" (map, size) => map::size;
        wait "proxy_get_header_map_pairs" (map, ptr, len) => map::pairs;
        now "proxy_set_header_map_pairs" (map, ptr, len) => map::set_pairs;
        wait "proxy_get_header_map_value" (map, kp, kn, ptr, len) => map::value;
        now "proxy_add_header_map_value" (map, kp, kn, vp, vn) => map::add;
        now "proxy_replace_header_map_value" (map, kp, kn, vp, vn) => map::replace;
        now "proxy_remove_header_map_value" (map, kp, kn) => map::remove;

        now "proxy_continue_stream" (stream) => control::continue_stream;
        now "proxy_close_stream" (stream) => control::close_stream;
        now "proxy_continue_request" () => control::continue_request;
        now "proxy_continue_response" () => control::continue_response;
        now "proxy_clear_route_cache" () => control::clear_route_cache;
        wait "proxy_get_status" (code, ptr, len) => control::status;
        now "proxy_done" () => control::done;
        now "proxy_set_effective_context" (context) => control::set_effective_context;
        now "proxy_send_local_response" (status, dp, dn, bp, bn, hp, hn, grpc) => control::send_local_response;
        now "proxy_set_tick_period_milliseconds" (ms) => control::set_tick_period;
        now "proxy_get_current_time_nanoseconds" (time) => control::current_time;

        now "proxy_http_call" (up, un, hp, hn, bp, bn, tp, tn, timeout, token) => call::http_call;
        now "proxy_grpc_call" (up, un, sp, sn, mp, mn, ip, r#in, dp, dn, timeout, token) => grpc::call;
        now "proxy_grpc_stream" (up, un, sp, sn, mp, mn, ip, r#in, token) => grpc::stream;
        now "proxy_grpc_send" (token, ptr, len, eos) => grpc::send;
        now "proxy_grpc_cancel" (token) => grpc::cancel;
        now "proxy_grpc_close" (token) => grpc::close;

        wait "proxy_get_shared_data" (kp, kn, ptr, len, cas) => shared::get;
        now "proxy_set_shared_data" (kp, kn, vp, vn, cas) => shared::set;
        now "proxy_register_shared_queue" (ptr, len, token) => shared::register;
        now "proxy_resolve_shared_queue" (vp, vn, ptr, len, token) => shared::resolve;
        now "proxy_enqueue_shared_queue" (token, ptr, len) => shared::enqueue;
        wait "proxy_dequeue_shared_queue" (token, ptr, len) => shared::dequeue;

        now "proxy_define_metric" (kind, ptr, len, id) => metric::define;
        now "proxy_increment_metric" (id, by) => metric::increment;
        now "proxy_record_metric" (id, value) => metric::record;
        now "proxy_get_metric" (id, value) => metric::get;

        wait "proxy_get_property" (pp, pn, ptr, len) => property::get;
        now "proxy_set_property" (pp, pn, vp, vn) => property::set;

        wait "proxy_call_foreign_function" (np, nn, ap, an, ptr, len) => layotto::foreign;
        wait "proxy_get_state" (sp, sn, kp, kn, ptr, len) => layotto::get_state;
        wait "proxy_invoke_service" (ip, r#in, mp, mn, pp, pn, ptr, len) => layotto::invoke_service;
    }
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_: Cx<'_>, _: u32| ())?;
    linker.func_wrap("env", "abort", log::abort)?;
    Ok(())
}

/// A guest's allocator, while it works for the host, may log and nothing else: it would be called
/// again from within itself.
fn refused(cx: &Cx<'_>, name: &str) -> Option<u32> {
    let refused = cx.data().allocating && name != "proxy_log";
    refused.then_some(Status::InternalFailure as u32)
}

fn number(outcome: Outcome) -> wasmtime::Result<u32> {
    match outcome {
        Ok(()) => Ok(0),
        Err(Fail::Status(status)) => Ok(status as u32),
        Err(Fail::Trap(error)) => Err(error),
    }
}
