//! `SessionService`: what a handler knows of its session, and what it keeps in it.

use capsule_proto::sdk;
use tonic::Status;

use super::{Answer, Caller, Gateway, answer, read};
use crate::appdata::{Entry, Save, Session};

/// Entries of a history that one answer has at the most.
const HISTORY_COUNT_MAX: usize = 1000;

impl Gateway {
    pub(super) async fn session_call(&self, caller: &Caller, name: &str, body: &[u8]) -> Answer {
        match name {
            "GetSession" => answer(&self.get_session(caller, read(body)?).await?),
            "SaveSessionData" => answer(&self.save_session(caller, read(body)?).await?),
            "NotifySession" => answer(&self.notify_session(caller, read(body)?).await?),
            "GetHistory" => {
                let asked: sdk::GetHistoryRequest = read(body)?;
                let before = u64::try_from(asked.before_seq).ok().filter(|seq| *seq > 0);
                let (before, count) = (before.unwrap_or(u64::MAX), count(asked.count));
                let entries =
                    self.data().history(&caller.app, &asked.session_id, before, count).await?;
                let channel = "chat";
                let entries = entries.into_iter().map(|entry| wire(entry, channel)).collect();
                answer(&sdk::GetHistoryResponse { entries })
            }
            // Asked for before every task without a session, so it is answered from memory.
            "GetUserIntegrations" => {
                answer(&sdk::GetUserIntegrationsResponse { integrations: Vec::new() })
            }
            _ => Ok(None),
        }
    }

    async fn get_session(
        &self,
        caller: &Caller,
        asked: sdk::GetSessionRequest,
    ) -> Result<sdk::GetSessionResponse, Status> {
        let count = count(asked.history_count);
        let found = self.data().session(&caller.app, &asked.session_id, count).await?;
        let missing = || {
            Status::not_found(format!("app {} has no session {:?}", caller.app, asked.session_id))
        };
        let (session, history) = found.ok_or_else(missing)?;
        let data_json = session.data_json();
        let Session { profile, .. } = session;
        let channel = &profile.channel;
        Ok(sdk::GetSessionResponse {
            session_id: asked.session_id,
            data_json,
            history: history.into_iter().map(|entry| wire(entry, channel)).collect(),
            channel_type: profile.channel.clone(),
            user_id: profile.user,
            user_email: profile.email,
            app_id: caller.app.clone(),
            integrations: Vec::new(),
            owner_id: profile.owner,
            org_id: profile.org,
        })
    }

    async fn save_session(
        &self,
        caller: &Caller,
        asked: sdk::SaveSessionDataRequest,
    ) -> Result<sdk::SaveSessionDataResponse, Status> {
        let save = Save {
            data: asked.data_json,
            base_revision: asked.base_revision,
            base_checksum: asked.base_checksum,
            nonce: asked.nonce,
            checksum: asked.checksum,
        };
        let saved = self.data().save(&caller.app, &asked.session_id, save).await?;
        Ok(sdk::SaveSessionDataResponse {
            ok: !saved.conflict,
            revision: saved.revision,
            checksum: saved.checksum,
            conflict: saved.conflict,
            data_json: saved.data,
        })
    }
}

fn count(asked: i32) -> usize {
    usize::try_from(asked).unwrap_or(0).min(HISTORY_COUNT_MAX)
}

fn wire(entry: Entry, channel: &str) -> sdk::HistoryEntry {
    sdk::HistoryEntry {
        sender: entry.sender,
        text: entry.text,
        timestamp: entry.at / 1000,
        channel_type: channel.to_owned(),
    }
}
