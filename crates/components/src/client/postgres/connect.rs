//! Making one connection.

use std::io;

use sqlx::{ConnectOptions, postgres::PgConnection};

use super::{
    conninfo::ConnInfo,
    failure::{self, Failure},
};

/// What a session is set to, unless the connection string says otherwise.
const SESSION: [(&str, &str); 4] = [
    // A caller that went away closes the connection; this makes the server notice during a
    // statement, and so stop it.
    ("client_connection_check_interval", "1s"),
    ("default_transaction_isolation", "read committed"),
    // Ends what a process left behind that stands still with its connections open.
    ("idle_in_transaction_session_timeout", "10s"),
    ("statement_timeout", "60s"),
];

impl ConnInfo {
    /// A connection that is ready for statements, within the time that it may take.
    pub(super) async fn connect(&self) -> Result<PgConnection, Failure> {
        match tokio::time::timeout(self.connect_timeout, self.log_in()).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => {
                let error = io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
                Err(sqlx::Error::Io(error).into())
            }
        }
    }

    async fn log_in(&self) -> Result<PgConnection, sqlx::Error> {
        let first = self.options.connect().await;
        let mut connection = match (first, self.second_mode) {
            (Err(error), Some(mode)) if asks_for_another_mode(&error) => {
                self.options.clone().ssl_mode(mode).connect().await?
            }
            (first, _) => first?,
        };
        self.set_up(&mut connection).await?;
        Ok(connection)
    }

    async fn set_up(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let wanted = SESSION
            .iter()
            .filter(|(name, _)| !self.session.iter().any(|own| own == name));
        let (names, values): (Vec<_>, Vec<_>) = wanted.copied().unzip();
        // Older servers do not know all of them.
        let set =
            "select set_config(name, value, false) from unnest($1::text[], $2::text[]) as s (name, value)
                   where current_setting(name, true) is not null";
        let set = sqlx::query(set).persistent(false).bind(names).bind(values);
        set.fetch_all(connection).await.map(drop)
    }
}

/// Whether the server said, or its TLS showed, that it does not take connections of this mode.
fn asks_for_another_mode(error: &sqlx::Error) -> bool {
    failure::is_of_tls(error) || failure::code(error) == Some("28000")
}
