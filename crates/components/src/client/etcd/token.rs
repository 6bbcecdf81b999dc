//! The token that stands for name and password.

use std::time::Duration;

use layotto_core::{Error, ErrorKind, Result};
use tokio::{sync::Mutex, time::Instant};
use tonic::metadata::{Ascii, MetadataValue};

use super::{
    failure::Failure,
    session::{Manner, Session},
    settings::Credentials,
    wire::{AuthenticateRequest, AuthenticateResponse},
};

/// A password that was refused is not tried again for so long: checking one costs a node much.
const REST: Duration = Duration::from_secs(1);

/// The token of one client, asked for when it is first needed.
pub(super) struct Token {
    credentials: Option<Credentials>,
    held: Mutex<Held>,
}

enum Held {
    Nothing,
    /// The nodes take requests without one.
    NotNeeded,
    Token(MetadataValue<Ascii>),
    Refused {
        until: Instant,
        kind: ErrorKind,
        text: String,
    },
}

impl Token {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self {
            credentials,
            held: Mutex::new(Held::Nothing),
        }
    }

    /// Whether there is a user.
    pub(super) fn is_needed(&self) -> bool {
        self.credentials.is_some()
    }

    /// The token; `None` where none is needed.
    pub(super) async fn get(&self, session: &Session) -> Result<Option<MetadataValue<Ascii>>> {
        let Some(credentials) = &self.credentials else {
            return Ok(None);
        };
        // Held while asking, so that many callers ask once.
        let mut held = self.held.lock().await;
        match &*held {
            Held::Token(token) => return Ok(Some(token.clone())),
            Held::NotNeeded => return Ok(None),
            Held::Refused { until, kind, text } if *until > Instant::now() => {
                return Err(Error::new(*kind, text.clone()));
            }
            Held::Refused { .. } | Held::Nothing => {}
        }
        match ask(credentials, session).await {
            Ok(token) => {
                *held = Held::Token(token.clone());
                Ok(Some(token))
            }
            Err(failure) if failure.says_there_is_no_authentication() => {
                *held = Held::NotNeeded;
                Ok(None)
            }
            Err(failure) => {
                let is_answer = !failure.is_transient();
                let error = failure.into_error();
                if is_answer {
                    *held = Held::Refused {
                        until: Instant::now() + REST,
                        kind: error.kind(),
                        text: error.message().to_owned(),
                    };
                }
                Err(error)
            }
        }
    }

    /// Forgets a token that a node did not accept, unless there is a newer one.
    pub(super) async fn forget(&self, refused: Option<&MetadataValue<Ascii>>) {
        let mut held = self.held.lock().await;
        let is_held = match &*held {
            Held::Token(token) => Some(token) == refused,
            Held::NotNeeded => refused.is_none(),
            Held::Nothing | Held::Refused { .. } => false,
        };
        if is_held {
            *held = Held::Nothing;
        }
    }
}

async fn ask(credentials: &Credentials, session: &Session) -> Result<MetadataValue<Ascii>, Failure> {
    let request = AuthenticateRequest {
        name: credentials.name.clone(),
        password: credentials.password.expose().clone(),
    };
    let path = "/etcdserverpb.Auth/Authenticate";
    let answer: AuthenticateResponse = session.unary(path, request, &Manner::default()).await?;
    let mut token: MetadataValue<Ascii> = answer
        .token
        .parse()
        .map_err(|_| tonic::Status::internal("the token is no header value"))?;
    token.set_sensitive(true);
    Ok(token)
}
