//! What each route is for, what it takes and what it gives, in words of a line.
//!
//! A body is told as `name:Kind` for each of its keys, `name!:Kind` for those that must be there, `Kind[]` for lists. Kinds are
//! those of `kinds`.

/// What a route gives.
#[derive(Clone, Copy, Debug)]
pub enum Gives {
    /// A kind or keys, as the result in the form of that API.
    Result(&'static str),
    /// JSON of its own form: these keys.
    Own(&'static str),
    /// The same of something that was made: 201.
    Made(&'static str),
    /// Nothing but that it is done: 204.
    Nothing,
    /// Text of this type.
    Text(&'static str),
    /// A refusal, always: what that API has and this server has not.
    Refusal,
}

/// A route, told.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The keys of its body; none without a body.
    pub body: &'static str,
    /// What it gives.
    pub gives: Gives,
}

const fn told(
    method: &'static str,
    path: &'static str,
    about: &'static str,
    body: &'static str,
    gives: Gives,
) -> Told {
    Told { method, path, about, body, gives }
}

use Gives::{Made, Nothing, Own, Refusal, Result, Text};

const PLAIN: Gives = Text("text/plain");
const DONE: Gives = Result("Boolean");
const CHANGED: Gives = Result("operation_id:Whole status:Text");
const FOUND: Gives = Result("Scored[]");
const POINTS: Gives = Result("points:Scored[]");
const GROUPS: Gives = Result("groups:Group[]");

const SELECTED: &str = "points:Id[] filter:Filter shard_key:Nothing";
const PAYLOAD: &str = "payload!:Object points:Id[] filter:Filter key:Text shard_key:Nothing";
const SEARCHES: &str = "searches!:Object[]";
const MATRIX: &str = "filter:Filter sample:Whole limit:Whole using:Text shard_key:Nothing";
const SEARCH: &str = "vector!:QueryVector filter:Filter params:Params limit!:Whole offset:Whole \
    with_payload:WithPayload with_vector:WithVector score_threshold:Number shard_key:Nothing";
const SEARCH_GROUPS: &str = "vector!:QueryVector group_by!:Text group_size:Whole filter:Filter \
    params:Params limit:Whole with_payload:WithPayload with_vector:WithVector score_threshold:Number \
    with_lookup:Any shard_key:Nothing";
const EXPLAIN: &str = "vector!:QueryVector using:Text filter:Filter params:Params limit!:Whole \
    with_payload:WithPayload with_vector:WithVector shard_key:Nothing";
const QUERY: &str = "prefetch:Any query:Any using:Text filter:Filter params:Params \
    score_threshold:Number limit:Whole offset:Whole lookup_from:Object with_payload:WithPayload \
    with_vector:WithVector shard_key:Nothing";
const QUERY_GROUPS: &str = "prefetch:Any query:Any using:Text filter:Filter params:Params \
    score_threshold:Number limit:Whole group_by!:Text group_size:Whole with_lookup:Any \
    lookup_from:Object with_payload:WithPayload with_vector:WithVector shard_key:Nothing";
const RECOMMEND: &str = "positive:Any[] negative:Any[] strategy:Text using:Text filter:Filter \
    params:Params score_threshold:Number limit:Whole offset:Whole lookup_from:Object \
    with_payload:WithPayload with_vector:WithVector shard_key:Nothing";
const RECOMMEND_GROUPS: &str = "positive:Any[] negative:Any[] strategy:Text using:Text \
    filter:Filter params:Params score_threshold:Number limit:Whole group_by!:Text group_size:Whole \
    with_lookup:Any lookup_from:Object with_payload:WithPayload with_vector:WithVector \
    shard_key:Nothing";
const DISCOVER: &str = "target:Any context:Any[] using:Text filter:Filter params:Params \
    score_threshold:Number limit:Whole offset:Whole lookup_from:Object with_payload:WithPayload \
    with_vector:WithVector shard_key:Nothing";
const NEW: &str = "vectors:Any shard_number:Any sharding_method:Any replication_factor:Any \
    write_consistency_factor:Any on_disk_payload:Any hnsw_config:Any wal_config:Any \
    optimizers_config:Any quantization_config:Any sparse_vectors:Any strict_mode_config:Any \
    metadata:Any";
const CHANGE: &str = "vectors:Object optimizers_config:Any params:Object hnsw_config:Any \
    quantization_config:Any sparse_vectors:Any strict_mode_config:Any metadata:Any";

const LOOKUP: &str = "text:Text vector:Number[] exact:Text model:Text category:Text user:Text \
    partition:Text max_age_s:Number threshold:Number lookups:Object[]";
const EXPLAIN_LOOKUP: &str = "text:Text vector:Number[] exact:Text model:Text category:Text \
    user:Text partition:Text max_age_s:Number threshold:Number";
const INSERT: &str = "text:Text vector:Number[] exact:Text model:Text category:Text user:Text \
    partition:Text answer:Any attributes:Object tags:Text[] ttl_s:Number saved_ms:Whole \
    saved_tokens:Whole entries:Object[]";

/// All routes, in the order of the table of routes.
pub const TOLD: &[Told] = &[
    told(
        "GET",
        "/",
        "The version of the API that is spoken, and ours.",
        "",
        Own("title:Text version:Text server:Object"),
    ),
    told("GET", "/healthz", "Whether the server lives.", "", PLAIN),
    told("GET", "/livez", "Whether the server lives.", "", PLAIN),
    told("GET", "/readyz", "Whether all collections are open.", "", PLAIN),
    told("GET", "/metrics", "What is counted and timed, as Prometheus reads it.", "", PLAIN),
    told(
        "GET",
        "/openapi.json",
        "This document.",
        "",
        Own("openapi:Text info:Object paths:Object components:Object"),
    ),
    told("GET", "/ui", "A page that shows the server as it runs.", "", Text("text/html")),
    told("GET", "/ui/page.css", "How that page looks.", "", Text("text/css")),
    told("GET", "/ui/page.js", "What that page does.", "", Text("text/javascript")),
    told("GET", "/ui/draw.js", "How that page draws.", "", Text("text/javascript")),
    told("GET", "/ui/cache.js", "What that page shows of caches.", "", Text("text/javascript")),
    told("GET", "/collections", "The names of collections.", "", Result("collections:Object[]")),
    told("GET", "/aliases", "All aliases.", "", Result("aliases:Object[]")),
    told(
        "POST",
        "/collections/aliases",
        "Makes, renames and deletes aliases: all of a request, or none.",
        "actions!:Object[]",
        DONE,
    ),
    told("PUT", "/collections/{collection}", "Makes a collection.", NEW, DONE),
    told(
        "PATCH",
        "/collections/{collection}",
        "Changes what is said of a collection.",
        CHANGE,
        DONE,
    ),
    told(
        "GET",
        "/collections/{collection}",
        "What a collection is.",
        "",
        Result(
            "status:Text optimizer_status:Text indexed_vectors_count:Whole points_count:Whole segments_count:Whole config:Object payload_schema:Object",
        ),
    ),
    told(
        "DELETE",
        "/collections/{collection}",
        "Deletes a collection; false where there is none.",
        "",
        DONE,
    ),
    told(
        "GET",
        "/collections/{collection}/exists",
        "Whether there is a collection.",
        "",
        Result("exists:Boolean"),
    ),
    told(
        "GET",
        "/collections/{collection}/aliases",
        "The aliases of a collection.",
        "",
        Result("aliases:Object[]"),
    ),
    told(
        "GET",
        "/collections/{collection}/stats",
        "What a collection takes, part by part, and its largest tenants. Ours.",
        "",
        Result(
            "points:Whole version:Whole vectors:Object[] bytes:Whole bytes_by_part:Object bytes_on_disk:Whole tenants:Whole largest_tenants:Object[] recall:Object",
        ),
    ),
    told(
        "PUT",
        "/collections/{collection}/index",
        "Indexes a payload field; with is_tenant it names the tenants.",
        "field_name!:Text field_schema:Any",
        CHANGED,
    ),
    told(
        "DELETE",
        "/collections/{collection}/index/{field}",
        "Drops the index of a payload field.",
        "",
        CHANGED,
    ),
    told(
        "PUT",
        "/collections/{collection}/vectors/{vector}",
        "Vectors are named when a collection is made.",
        "",
        Refusal,
    ),
    told(
        "DELETE",
        "/collections/{collection}/vectors/{vector}",
        "Vectors are named when a collection is made.",
        "",
        Refusal,
    ),
    told(
        "PUT",
        "/collections/{collection}/points",
        "Stores points, as a list or as columns.",
        "points:Point[] batch:Object update_filter:Filter update_mode:Text shard_key:Nothing",
        CHANGED,
    ),
    told(
        "POST",
        "/collections/{collection}/points",
        "The points of these ids.",
        "ids!:Id[] with_payload:WithPayload with_vector:WithVector shard_key:Nothing",
        Result("Record[]"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/batch",
        "Operations one after the other, each whole.",
        "operations!:Object[]",
        Result("Object[]"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/delete",
        "Removes points, by ids or a filter.",
        SELECTED,
        CHANGED,
    ),
    told(
        "POST",
        "/collections/{collection}/points/scroll",
        "Points page by page, by id or in the order of a field.",
        "offset:Id limit:Whole filter:Filter with_payload:WithPayload with_vector:WithVector order_by:Any shard_key:Nothing",
        Result("points:Record[] next_page_offset:Any"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/count",
        "How many points pass; always exact.",
        "filter:Filter exact:Boolean shard_key:Nothing",
        Result("count:Whole"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/payload",
        "Sets keys of payloads.",
        PAYLOAD,
        CHANGED,
    ),
    told(
        "PUT",
        "/collections/{collection}/points/payload",
        "Puts payloads in place of others.",
        PAYLOAD,
        CHANGED,
    ),
    told(
        "POST",
        "/collections/{collection}/points/payload/delete",
        "Deletes keys of payloads.",
        "keys!:Text[] points:Id[] filter:Filter shard_key:Nothing",
        CHANGED,
    ),
    told(
        "POST",
        "/collections/{collection}/points/payload/clear",
        "Empties payloads.",
        SELECTED,
        CHANGED,
    ),
    told(
        "PUT",
        "/collections/{collection}/points/vectors",
        "Changes vectors of points.",
        "points!:Object[] update_filter:Filter shard_key:Nothing",
        CHANGED,
    ),
    told(
        "POST",
        "/collections/{collection}/points/vectors/delete",
        "Takes vectors from points.",
        "vector!:Text[] points:Id[] filter:Filter shard_key:Nothing",
        CHANGED,
    ),
    told(
        "POST",
        "/collections/{collection}/points/search",
        "The points that are nearest to a vector.",
        SEARCH,
        FOUND,
    ),
    told(
        "POST",
        "/collections/{collection}/points/search/batch",
        "Several searches.",
        SEARCHES,
        Result("List[]"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/search/groups",
        "The points that are nearest to a vector, in groups.",
        SEARCH_GROUPS,
        GROUPS,
    ),
    told(
        "POST",
        "/collections/{collection}/points/search/matrix/pairs",
        "How near some points are to each other, pair by pair.",
        MATRIX,
        Result("pairs:Object[]"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/search/matrix/offsets",
        "How near some points are to each other, as a sparse matrix.",
        MATRIX,
        Result("offsets_row:Whole[] offsets_col:Whole[] scores:Number[] ids:Id[]"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/explain",
        "Searches, and tells what was weighed, taken and touched. Ours.",
        EXPLAIN,
        Result("points:Scored[] plan:Plan"),
    ),
    told("POST", "/collections/{collection}/points/query", "Queries of every kind.", QUERY, POINTS),
    told(
        "POST",
        "/collections/{collection}/points/query/batch",
        "Several queries, at one version.",
        SEARCHES,
        Result("Object[]"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/query/groups",
        "Queries of every kind, in groups.",
        QUERY_GROUPS,
        GROUPS,
    ),
    told(
        "POST",
        "/collections/{collection}/points/recommend",
        "Points like some and unlike others.",
        RECOMMEND,
        FOUND,
    ),
    told(
        "POST",
        "/collections/{collection}/points/recommend/batch",
        "Several recommendations.",
        SEARCHES,
        Result("List[]"),
    ),
    told(
        "POST",
        "/collections/{collection}/points/recommend/groups",
        "Points like some and unlike others, in groups.",
        RECOMMEND_GROUPS,
        GROUPS,
    ),
    told(
        "POST",
        "/collections/{collection}/points/discover",
        "Points near a target, on the right side of pairs.",
        DISCOVER,
        FOUND,
    ),
    told(
        "POST",
        "/collections/{collection}/points/discover/batch",
        "Several discoveries.",
        SEARCHES,
        Result("List[]"),
    ),
    told("GET", "/collections/{collection}/points/{id}", "One point.", "", Result("Record")),
    told(
        "POST",
        "/collections/{collection}/facet",
        "The values of a field and how many points have each; always exact.",
        "key!:Text limit:Whole filter:Filter exact:Boolean shard_key:Nothing",
        Result("hits:Object[]"),
    ),
    told(
        "PUT",
        "/collections/{collection}/shards",
        "A collection lies on one machine.",
        "",
        Refusal,
    ),
    told(
        "POST",
        "/collections/{collection}/shards/delete",
        "A collection lies on one machine.",
        "",
        Refusal,
    ),
    told("GET", "/collections/{collection}/cluster", "This server is one machine.", "", Refusal),
    told("POST", "/collections/{collection}/cluster", "This server is one machine.", "", Refusal),
    told("GET", "/cluster", "This server is one machine.", "", Refusal),
    told("GET", "/snapshots", "Snapshots are made by a command.", "", Refusal),
    told("POST", "/snapshots", "Snapshots are made by a command.", "", Refusal),
    told(
        "GET",
        "/collections/{collection}/snapshots",
        "Snapshots are made by a command.",
        "",
        Refusal,
    ),
    told(
        "POST",
        "/collections/{collection}/snapshots",
        "Snapshots are made by a command.",
        "",
        Refusal,
    ),
    told(
        "PUT",
        "/collections/{collection}/snapshots/recover",
        "Snapshots are made by a command.",
        "",
        Refusal,
    ),
    told("GET", "/v1/cache", "The names of caches.", "", Result("caches:Text[]")),
    told(
        "PUT",
        "/v1/cache/{cache}",
        "Makes a cache: for texts, or for vectors of this length.",
        "dim:Whole embedder:Text",
        DONE,
    ),
    told(
        "POST",
        "/v1/cache/{cache}/lookup",
        "Whether a question like this was answered, or several.",
        LOOKUP,
        Result("Object"),
    ),
    told(
        "POST",
        "/v1/cache/{cache}/insert",
        "Remembers an answer, or several.",
        INSERT,
        Result("Object"),
    ),
    told(
        "POST",
        "/v1/cache/{cache}/invalidate",
        "Forgets answers, of the tenant of the key: exactly one of the ways to say which.",
        "id:Whole tag:Text category:Text writer:Text attributes:Object user:Text model:Text \
         all:Boolean all_tenants:Boolean",
        Result("removed:Whole"),
    ),
    told(
        "POST",
        "/v1/cache/{cache}/explain",
        "Why a question is answered or not, and what is near; nothing is counted.",
        EXPLAIN_LOOKUP,
        Result("Object"),
    ),
    told(
        "POST",
        "/v1/cache/{cache}/load",
        "Reports how loaded the models are, 0 to 1, for policies that follow it.",
        "load!:Number",
        DONE,
    ),
    told(
        "GET",
        "/v1/cache/{cache}/stats",
        "What a cache holds and did, by category.",
        "",
        Result("Object"),
    ),
    told("GET", "/v1/cache/{cache}/policy", "The policies in force.", "", Result("Object")),
    told(
        "GET",
        "/v1/cache/{cache}/decisions",
        "What was decided lately, and why.",
        "",
        Result("decisions:Object[]"),
    ),
    told(
        "POST",
        "/v1/caches/{cache}/entries/search",
        "Whether a prompt like this was answered, as LangCache's clients ask.",
        "prompt!:Text similarityThreshold:Number searchStrategies:Text[] attributes:Object \
         maxResults:Whole",
        Own("data:Object[]"),
    ),
    told(
        "POST",
        "/v1/caches/{cache}/conversations/search",
        "The same for the last question of a conversation.",
        "prompt!:Text similarityThreshold:Number searchStrategies:Text[] attributes:Object \
         maxResults:Whole context:Text[]",
        Own("actualPrompt:Text data:Object[]"),
    ),
    told(
        "POST",
        "/v1/caches/{cache}/entries",
        "Remembers an answer to a prompt.",
        "prompt!:Text response!:Text attributes:Object ttlMillis:Whole",
        Made("entryId:Text"),
    ),
    told(
        "DELETE",
        "/v1/caches/{cache}/entries",
        "Forgets what has all of these attributes.",
        "attributes!:Object",
        Own("deletedEntriesCount:Whole"),
    ),
    told("DELETE", "/v1/caches/{cache}/entries/{entry}", "Forgets an entry.", "", Nothing),
    told("POST", "/v1/caches/{cache}/flush", "Forgets all of the key's tenant.", "", Nothing),
    told(
        "POST",
        "/v1/chat/completions",
        "A message of the model behind, or one that was given before: see x-cache.",
        "",
        Own("id:Text object:Text created:Whole model:Text choices:Object[] usage:Object"),
    ),
    told(
        "POST",
        "/v1/completions",
        "A text of the model behind, or one that was given before: see x-cache.",
        "",
        Own("id:Text object:Text created:Whole model:Text choices:Object[] usage:Object"),
    ),
    told(
        "POST",
        "/v1/responses",
        "A response of the model behind, or one that was given before: see x-cache.",
        "",
        Own("id:Text object:Text status:Text model:Text output:Object[] usage:Object"),
    ),
    told(
        "POST",
        "/v1/embeddings",
        "Vectors of the model behind, or equal ones that were given before: see x-cache.",
        "",
        Own("object:Text model:Text data:Object[] usage:Object"),
    ),
    told("GET", "/v1/{+path}", "Passed on to the model server behind.", "", Own("object:Text")),
    told("POST", "/v1/{+path}", "Passed on to the model server behind.", "", Own("object:Text")),
    told("DELETE", "/v1/{+path}", "Passed on to the model server behind.", "", Own("object:Text")),
];
