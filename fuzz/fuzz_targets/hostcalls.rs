//! Host functions called with whatever pointers and lengths, one after another, by one guest.
//!
//! Each call begins with a byte that names the function; its parameters follow, each after a byte
//! that says how it is written: a place in the guest's memory or a small number, of two bytes, or
//! any number, of four. `0xff` in the place of a function writes into the guest's memory: a byte for
//! the address in steps of sixteen, one for the length, and the bytes.

#![no_main]

use std::cell::RefCell;

use layotto_wasm::fuzzing::{Caller, MEMORY, World};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// Memory, and an allocator that never frees and, in the end, fails.
const OWN: &str = r#"
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 65536))
    (func (export "proxy_on_memory_allocate") (param $n i32) (result i32) (local $at i32)
        (local.set $at (global.get $next))
        (if (i32.gt_u (local.get $n) (i32.sub (i32.const 131072) (local.get $at)))
            (then (return (i32.const 0))))
        (global.set $next (i32.add (local.get $at) (local.get $n)))
        (local.get $at))
"#;

/// What the ABI knows of results.
const STATUSES: [u32; 10] = [0, 1, 2, 3, 4, 6, 7, 8, 10, 12];

/// The most calls of one guest.
const MOST: usize = 64;

struct Bench {
    world: World,
    functions: Vec<(String, usize)>,
    runtime: Runtime,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    BENCH.with_borrow_mut(|bench| {
        let bench = bench.get_or_insert_with(Bench::new);
        let mut calls = Calls(input);
        bench
            .runtime
            .block_on(run(&bench.world, &bench.functions, &mut calls));
    });
});

impl Bench {
    fn new() -> Self {
        // Sleeping guests wake at once.
        let mut runtime = Builder::new_current_thread();
        runtime.enable_time().start_paused(true);
        let mut world = World::new();
        let wasm = wat::parse_str(world.text(OWN)).expect("a module");
        world.prepare(&wasm);
        Self {
            functions: world.functions(),
            world,
            runtime: runtime.build().expect("a runtime"),
        }
    }
}

async fn run(world: &World, functions: &[(String, usize)], calls: &mut Calls<'_>) {
    let mut caller = world.caller().await;
    for _ in 0..MOST {
        match calls.byte() {
            None => return,
            Some(0xff) => calls.write(&mut caller),
            Some(at) => {
                let (name, count) = &functions[usize::from(at) % functions.len()];
                let arguments: Vec<u64> = (0..*count).map(|_| calls.number()).collect();
                let Some(status) = caller.call(name, &arguments).await else {
                    return;
                };
                assert!(
                    !name.starts_with("proxy_") || STATUSES.contains(&status),
                    "{name} answered {status}"
                );
                assert!(caller.memory() <= MEMORY, "{name} let the guest grow");
            }
        }
    }
}

/// What is left of the input.
struct Calls<'a>(&'a [u8]);

impl Calls<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        std::array::from_fn(|_| self.byte().unwrap_or_default())
    }

    fn number(&mut self) -> u64 {
        match self.byte().unwrap_or_default() % 4 {
            0 => u64::from(u16::from_le_bytes(self.bytes())),
            1 => u64::from(self.byte().unwrap_or_default() % 16),
            2 => u64::from(u32::from_le_bytes(self.bytes())),
            // Near the end of the memory.
            _ => 131_072 - u64::from(self.byte().unwrap_or_default()),
        }
    }

    fn write(&mut self, caller: &mut Caller) {
        let [at, length] = self.bytes();
        let taken = self
            .0
            .split_at_checked(usize::from(length))
            .unwrap_or((self.0, &[]));
        self.0 = taken.1;
        caller.write(usize::from(at) * 16, taken.0);
    }
}
