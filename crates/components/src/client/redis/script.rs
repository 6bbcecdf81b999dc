//! Lua scripts: sent by their digest, in full to a server that does not know it.

use redis::{Cmd, RedisError, ServerErrorKind, Value};

/// A script of ours.
#[derive(Debug)]
pub(crate) struct Script {
    source: &'static str,
    digest: String,
}

impl Script {
    pub(crate) fn new(source: &'static str) -> Self {
        Self {
            source,
            digest: redis::Script::new(source).get_hash().to_owned(),
        }
    }
}

/// A script with what it is called with. All keys of one call are in one slot.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) script: &'a Script,
    pub(crate) keys: Vec<&'a str>,
    pub(crate) arguments: Vec<&'a [u8]>,
}

impl Call<'_> {
    /// The key that says which server it goes to.
    pub(super) fn key(&self) -> &str {
        self.keys.first().copied().unwrap_or_default()
    }

    /// The call by the script's digest.
    pub(super) fn by_digest(&self) -> Cmd {
        self.command("EVALSHA", &self.script.digest)
    }

    /// The call with the whole script, which the server keeps.
    pub(super) fn in_full(&self) -> Cmd {
        self.command("EVAL", self.script.source)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let texts = name.len() + script.len() + self.keys.iter().map(|key| key.len()).sum::<usize>();
        let bytes = self
            .arguments
            .iter()
            .map(|argument| argument.len())
            .sum::<usize>();
        let count = 3 + self.keys.len() + self.arguments.len();
        let mut command = Cmd::with_capacity(count, texts + bytes + 8);
        command.arg(name).arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(*key);
        }
        for argument in &self.arguments {
            command.arg(*argument);
        }
        command
    }
}

/// Whether the server does not know the script, and so did nothing.
pub(super) fn is_unknown(reply: &Value) -> bool {
    let Value::ServerError(error) = reply else {
        return false;
    };
    let error = RedisError::from(error.clone());
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}
