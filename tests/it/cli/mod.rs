//! Tests what a person or a probe sees of the program: exit codes, messages, the demo, the HTTP endpoints.

mod admin_tls;
mod behind;
mod certificates;
mod check;
mod command_line;
mod dead_letters;
mod demo;
mod http_endpoints;
mod log;
mod status;
mod status_page;
mod symptoms;
