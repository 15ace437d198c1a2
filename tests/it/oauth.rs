//! The OAuth client and the JSON source against odd servers and odd settings.

mod answer_times;
mod answers;
mod kinds;
mod odd_answers;
mod odd_discovery;
mod quoted;
mod refusals;
mod requests;
mod routes;
mod settings;
