//! What a guest exports: functions of numbers of 32 bits, as all of the ABI are.

use std::collections::HashMap;

use wasmtime::{ExternType, Func, Module, ModuleExport, Store, TypedFunc, WasmResults};

use crate::guest::Guest;

/// A function that a module exports.
pub(super) struct Export {
    at: ModuleExport,
    takes: usize,
    answers: bool,
    /// Its place among [`Functions`].
    number: usize,
}

/// All of a module that the host can call, by their names.
pub(super) fn exports(module: &Module) -> HashMap<String, Export> {
    let mut found = HashMap::new();
    for export in module.exports() {
        let ExternType::Func(signature) = export.ty() else {
            continue;
        };
        let mut kinds = signature.params().chain(signature.results());
        if !kinds.all(|kind| kind.is_i32()) {
            continue;
        }
        let Some(at) = module.get_export_index(export.name()) else {
            continue;
        };
        let function = Export {
            at,
            takes: signature.params().len(),
            answers: signature.results().len() == 1,
            number: found.len(),
        };
        found.insert(export.name().to_owned(), function);
    }
    found
}

/// The functions of an instance, each looked up and checked when it is called first.
pub(super) struct Functions(Vec<Option<Function>>);

impl Functions {
    /// Of a module with so many exports.
    pub(super) fn of(count: usize) -> Self {
        Self((0..count).map(|_| None).collect())
    }

    /// Calls one with as many of the arguments as it takes: those of older versions of the ABI take
    /// fewer. `None`: it answers nothing.
    pub(super) async fn call(
        &mut self,
        store: &mut Store<Guest>,
        instance: wasmtime::Instance,
        export: &Export,
        arguments: &[u32],
    ) -> wasmtime::Result<Option<u32>> {
        if export.takes > arguments.len() {
            wasmtime::bail!("it takes {} arguments, not {}", export.takes, arguments.len());
        }
        let Some(place) = self.0.get_mut(export.number) else {
            return Ok(None);
        };
        let function = match place {
            Some(function) => function,
            None => {
                let found = instance.get_module_export(&mut *store, &export.at);
                let Some(found) = found.and_then(|found| found.into_func()) else {
                    return Ok(None);
                };
                place.insert(Function::of(found, export, store)?)
            }
        };
        match function {
            Function::Silent(function) => function.call(store, arguments).await.map(|()| None),
            Function::Answers(function) => function.call(store, arguments).await.map(Some),
        }
    }
}

enum Function {
    Silent(Taking<()>),
    Answers(Taking<u32>),
}

impl Function {
    fn of(found: Func, export: &Export, store: &Store<Guest>) -> wasmtime::Result<Self> {
        Ok(match export.answers {
            false => Self::Silent(Taking::of(found, export.takes, store)?),
            true => Self::Answers(Taking::of(found, export.takes, store)?),
        })
    }
}

/// By how much it takes; no function of the ABI takes more than five numbers.
enum Taking<R> {
    Nothing(TypedFunc<(), R>),
    One(TypedFunc<u32, R>),
    Two(TypedFunc<(u32, u32), R>),
    Three(TypedFunc<(u32, u32, u32), R>),
    Four(TypedFunc<(u32, u32, u32, u32), R>),
    Five(TypedFunc<(u32, u32, u32, u32, u32), R>),
}

impl<R: WasmResults + Sync> Taking<R> {
    fn of(found: Func, takes: usize, store: &Store<Guest>) -> wasmtime::Result<Self> {
        Ok(match takes {
            0 => Self::Nothing(found.typed(store)?),
            1 => Self::One(found.typed(store)?),
            2 => Self::Two(found.typed(store)?),
            3 => Self::Three(found.typed(store)?),
            4 => Self::Four(found.typed(store)?),
            _ => Self::Five(found.typed(store)?),
        })
    }

    async fn call(&self, store: &mut Store<Guest>, arguments: &[u32]) -> wasmtime::Result<R> {
        let at = |index: usize| arguments.get(index).copied().unwrap_or_default();
        match self {
            Self::Nothing(function) => function.call_async(store, ()).await,
            Self::One(function) => function.call_async(store, at(0)).await,
            Self::Two(function) => function.call_async(store, (at(0), at(1))).await,
            Self::Three(function) => function.call_async(store, (at(0), at(1), at(2))).await,
            Self::Four(function) => function.call_async(store, (at(0), at(1), at(2), at(3))).await,
            Self::Five(function) => {
                let all = (at(0), at(1), at(2), at(3), at(4));
                function.call_async(store, all).await
            }
        }
    }
}
