//! `DataService`: documents and schemas of collections.

use capsule_proto::sdk;
use prost::Message as _;
use serde_json::{Map, Value};
use tonic::Status;

use super::{Answer, Caller, Gateway, answer, read};
use crate::appdata::{Find, Place, Scope};

impl Gateway {
    pub(super) async fn data_call(&self, caller: &Caller, name: &str, body: &[u8]) -> Answer {
        match name {
            "InsertOne" | "InsertMany" => self.insert(caller, name == "InsertMany", body).await,
            "FindOne" | "Find" | "Count" => self.look(caller, name, body).await,
            "UpdateOne" => {
                let request: sdk::UpdateOneRequest = read(body)?;
                let place = place(caller, &request.app_id, request.collection)?;
                let filter = object("filter", &request.filter_json)?;
                let update = object("update", &request.update_json)?;
                let (matched, modified) =
                    self.data().update(place, filter, update, request.upsert).await?;
                let (matched, modified) = (signed(matched), signed(modified));
                answer(&sdk::UpdateOneResponse { matched, modified })
            }
            "DeleteOne" => {
                let request: sdk::DeleteOneRequest = read(body)?;
                let place = place(caller, &request.app_id, request.collection)?;
                let filter = object("filter", &request.filter_json)?;
                let deleted = signed(self.data().delete(place, filter, false).await?);
                answer(&sdk::DeleteOneResponse { deleted })
            }
            "DeleteMany" => {
                let request: sdk::DeleteManyRequest = read(body)?;
                let place = place(caller, &request.app_id, request.collection)?;
                let filter = object("filter", &request.filter_json)?;
                let deleted = signed(self.data().delete(place, filter, true).await?);
                answer(&sdk::DeleteManyResponse { deleted })
            }
            "GetCollectionSchema" | "ListCollectionSchemas" | "UpsertCollectionSchema" => {
                self.schema_call(caller, name, body).await
            }
            _ => Ok(None),
        }
    }

    async fn insert(&self, caller: &Caller, many: bool, body: &[u8]) -> Answer {
        if many {
            let request: sdk::InsertManyRequest = read(body)?;
            let place = place(caller, &request.app_id, request.collection)?;
            let documents: Result<Vec<_>, _> =
                request.documents_json.iter().map(|bytes| object("document", bytes)).collect();
            let ids = self.data().insert(place, documents?).await?;
            return answer(&sdk::InsertManyResponse { ids });
        }
        let request: sdk::InsertOneRequest = read(body)?;
        let place = place(caller, &request.app_id, request.collection)?;
        let document = object("document", &request.document_json)?;
        let id = self.data().insert(place, vec![document]).await?.pop().unwrap_or_default();
        answer(&sdk::InsertOneResponse { id })
    }

    async fn look(&self, caller: &Caller, name: &str, body: &[u8]) -> Answer {
        match name {
            "FindOne" => {
                let request: sdk::FindOneRequest = read(body)?;
                let place = place(caller, &request.app_id, request.collection)?;
                let filter = object("filter", &request.filter_json)?;
                let find = Find { filter, limit: 1, ..Find::default() };
                let document_json = self.data().find(place, find).await?.pop().unwrap_or_default();
                answer(&sdk::FindOneResponse { document_json })
            }
            "Count" => {
                let request: sdk::CountRequest = read(body)?;
                let place = place(caller, &request.app_id, request.collection)?;
                let filter = object("filter", &request.filter_json)?;
                let count = signed(self.data().count(place, filter).await?);
                answer(&sdk::CountResponse { count })
            }
            _ => {
                let request: sdk::FindRequest = read(body)?;
                let place = place(caller, &request.app_id, request.collection)?;
                let find = Find {
                    filter: object("filter", &request.filter_json)?,
                    sort: object("sort", &request.sort_json)?,
                    skip: usize::try_from(request.skip).unwrap_or(0),
                    limit: usize::try_from(request.limit).unwrap_or(0),
                };
                let documents_json = self.data().find(place, find).await?;
                answer(&sdk::FindResponse { documents_json })
            }
        }
    }

    async fn schema_call(&self, caller: &Caller, name: &str, body: &[u8]) -> Answer {
        match name {
            "GetCollectionSchema" => {
                let asked: sdk::GetCollectionSchemaRequest = read(body)?;
                let ids = [&asked.session_id, &asked.user_id, &asked.owner_id];
                let scope = scope(caller, &asked.app_id, &asked.scope, ids)?;
                let found = self.data().schema(scope, asked.name).await?;
                let schema = found.map(|bytes| read(&bytes)).transpose()?;
                answer(&sdk::GetCollectionSchemaResponse { found: schema.is_some(), schema })
            }
            "ListCollectionSchemas" => {
                let asked: sdk::ListCollectionSchemasRequest = read(body)?;
                let ids = [&asked.session_id, &asked.user_id, &asked.owner_id];
                let scope = scope(caller, &asked.app_id, &asked.scope, ids)?;
                let found = self.data().schemas(scope).await?;
                let schemas: Result<Vec<_>, _> = found.iter().map(|bytes| read(bytes)).collect();
                answer(&sdk::ListCollectionSchemasResponse { schemas: schemas? })
            }
            _ => {
                let asked: sdk::UpsertCollectionSchemaRequest = read(body)?;
                let schema = asked.schema.unwrap_or_default();
                let ids = [&schema.session_id, &schema.user_id, &schema.owner_id];
                let scope = scope(caller, &asked.app_id, &schema.scope, ids)?;
                let bytes = schema.encode_to_vec();
                self.data().put_schema(scope, schema.name.clone(), bytes).await?;
                answer(&sdk::UpsertCollectionSchemaResponse { schema: Some(schema) })
            }
        }
    }
}

fn place(caller: &Caller, app: &str, collection: String) -> Result<Place, Status> {
    Ok(Place { app: caller.data_app(app)?, collection })
}

/// For whom a schema holds; `ids` are those of session, user and owner.
fn scope(caller: &Caller, app: &str, word: &str, ids: [&String; 3]) -> Result<Scope, Status> {
    let [session, user, owner] = ids;
    let whose = match word {
        "" | "app" => "app".to_owned(),
        "session" => format!("session:{session}"),
        "user" => format!("user:{user}"),
        other => format!("{other}:{owner}"),
    };
    Ok(Scope { app: caller.data_app(app)?, whose })
}

fn object(what: &str, bytes: &[u8]) -> Result<Map<String, Value>, Status> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Status::invalid_argument(format!("the {what} is no JSON object: {error}")))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
