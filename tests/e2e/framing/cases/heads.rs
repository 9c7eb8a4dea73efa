//! Heads: request lines, targets, header lines, hosts, hop-by-hop headers, and their limits.

use super::{Table, get, post, with};

pub(super) fn request_lines(t: &mut Table) {
    for (name, line, status, code) in [
        ("lower-case method", "get / HTTP/1.1", 400, "method"),
        ("mixed-case method", "Post / HTTP/1.1", 400, "method"),
        ("method with colon", "GE:T / HTTP/1.1", 400, "method"),
        ("method with digit", "GET1 / HTTP/1.1", 400, "method"),
        ("method with nul", "G\0T / HTTP/1.1", 400, "method"),
        ("method with underscore", "PRO_P / HTTP/1.1", 400, "method"),
        ("method in quotes", "\"GET\" / HTTP/1.1", 400, "method"),
        (
            "method too long",
            "GETGETGETGETGETGETGETGETGET / HTTP/1.1",
            400,
            "method",
        ),
        ("connect", "CONNECT a:443 HTTP/1.1", 501, "method_unsupported"),
        ("trace", "TRACE / HTTP/1.1", 501, "method_unsupported"),
        ("preface in the middle", "PRI * HTTP/2.1", 501, "method_unsupported"),
        ("leading space", " GET / HTTP/1.1", 400, "method"),
        ("leading tab", "\tGET / HTTP/1.1", 400, "method"),
        ("leading nul", "\0GET / HTTP/1.1", 400, "method"),
        ("two spaces after the method", "GET  / HTTP/1.1", 400, "target"),
        ("two spaces before the version", "GET /  HTTP/1.1", 400, "target"),
        ("tab after the method", "GET\t/ HTTP/1.1", 400, "method"),
        ("tab before the version", "GET /\tHTTP/1.1", 400, "request_line"),
        ("trailing space", "GET / HTTP/1.1 ", 400, "request_line"),
        ("no version", "GET /", 400, "request_line"),
        ("no target", "GET HTTP/1.1", 400, "request_line"),
        ("method only", "GET", 400, "request_line"),
        ("version in lower case", "GET / http/1.1", 400, "request_line"),
        ("version 0.9", "GET / HTTP/0.9", 505, "version"),
        ("version 1.2", "GET / HTTP/1.2", 505, "version"),
        ("version 2.0", "GET / HTTP/2.0", 505, "version"),
        ("version 3.0", "GET / HTTP/3.0", 505, "version"),
        ("version with two digits", "GET / HTTP/1.10", 400, "request_line"),
        ("version with a comma", "GET / HTTP/1,1", 400, "request_line"),
        ("version with plus", "GET / HTTP/+1.1", 400, "request_line"),
        ("version and junk", "GET / HTTP/1.1x", 400, "request_line"),
        ("space in the target", "GET /a b HTTP/1.1", 400, "target"),
        ("second version in the target", "GET / HTTP/1.1 HTTP/1.1", 400, "target"),
        ("carriage return in the target", "GET /a\rb HTTP/1.1", 400, "target"),
        ("carriage return after the method", "GET\r / HTTP/1.1", 400, "method"),
    ] {
        t.refuse(name, status, code, format!("{line}\r\nHost: a\r\n\r\n"));
    }
    t.refuse("two empty lines", 400, "empty_line", "\r\n\r\n".to_owned() + &get("/"));
    t.refuse(
        "empty line without carriage return",
        400,
        "bare_line_feed",
        "\n".to_owned() + &get("/"),
    );
    t.refuse(
        "carriage returns before the request",
        400,
        "request_line",
        "\r\r\n".to_owned() + &get("/"),
    );
    t.refuse(
        "tls hello",
        400,
        "tls_on_plain_port",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    );
    t.refuse("null bytes", 400, "method", [0u8; 64]);
    t.refuse("ssh banner", 400, "request_line", "SSH-2.0-x\r\n");
    t.silent(
        "proxy protocol",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_owned() + &get("/"),
    );
    t.silent("version of another protocol", "GET / ICAP/1.1\r\nHost: a\r\n\r\n");
    t.silent("rtsp", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    t.silent("wrong preface", "INVALID CONNECTION PREFACE\r\n\r\n");
}

pub(super) fn targets(t: &mut Table) {
    for (name, target) in [
        ("dot segment", "/./a"),
        ("dot-dot segment", "/a/../b"),
        ("dot-dot at the end", "/a/.."),
        ("dot-dot before the query", "/a/..?b"),
        ("encoded dot-dot", "/a/%2e%2e/b"),
        ("encoded dot-dot in upper case", "/a/%2E%2E/b"),
        ("half encoded dot-dot", "/a/.%2e/b"),
        ("dot-dot with a parameter", "/a/..;x=y/b"),
        ("dot-dot with an encoded parameter", "/a/..%3bx/b"),
        ("encoded slash", "/a%2fb"),
        ("encoded slash in upper case", "/a%2Fb"),
        ("encoded backslash", "/a%5cb"),
        ("backslash", "/a\\b"),
        ("backslash dots", "/a/..\\b"),
        ("encoded nul", "/a%00"),
        ("encoded carriage return and line feed", "/a%0d%0aX:%20y"),
        ("encoded line feed", "/a%0a"),
        ("encoded tab", "/a%09"),
        ("encoded delete", "/a%7f"),
        ("overlong dot", "/%c0%ae%c0%ae/"),
        ("percent without digits", "/a%"),
        ("percent with one digit", "/a%2"),
        ("percent with letters", "/a%zz"),
        ("percent with u", "/a%u002e"),
    ] {
        t.refuse(name, 400, "path", get(target));
    }
    for (name, target) in [
        ("asterisk", "*"),
        ("authority form", "a:80"),
        ("relative target", "a/b"),
        ("fragment", "/a#b"),
        ("fragment in the query", "/a?b#c"),
        ("absolute with another scheme", "ftp://a/"),
        ("absolute without path", "http://a"),
        ("absolute with a query and no path", "http://a?b"),
        ("scheme relative to nothing", "http:/a"),
        ("control byte", "/a\u{1}b"),
        ("delete byte", "/a\u{7f}b"),
        ("raw utf-8", "/\u{e9}"),
        ("raw utf-8 in the query", "/?\u{e9}"),
        ("nul in the query", "/?a\0b"),
        ("tab in the query", "/?a\tb"),
    ] {
        t.refuse(name, 400, "target", get(target));
    }
    for (name, target) in [
        ("absolute target of another host", "http://b/"),
        ("absolute target of another port", "http://a:81/"),
        ("absolute target with user", "http://a@b/"),
        ("absolute target with user of this host", "http://x@a/"),
        ("absolute target of a metadata service", "http://169.254.169.254/latest"),
        ("absolute target without host", "http:///a"),
    ] {
        t.refuse(name, 400, "host", get(target));
    }
    t.refuse("absolute target with dots", 400, "path", get("http://a/../b"));
}

pub(super) fn lines_and_names(t: &mut Table) {
    for (name, headers, code) in [
        ("line feed alone after a header", "X: y\n", "bare_line_feed"),
        ("folded line", "X: y\r\n z\r\n", "folded_line"),
        ("folded line with tab", "X: y\r\n\tz\r\n", "folded_line"),
        (
            "folded framing header",
            "Transfer-Encoding:\r\n chunked\r\n",
            "transfer_encoding",
        ),
        ("space before the colon", "X : y\r\n", "header_name"),
        ("tab before the colon", "X\t: y\r\n", "header_name"),
        (
            "space before the colon of a length",
            "Content-Length : 0\r\n",
            "header_name",
        ),
        (
            "space before the colon of an encoding",
            "Transfer-Encoding : chunked\r\n",
            "header_name",
        ),
        ("space inside a name", "X Y: z\r\n", "header_name"),
        ("empty name", ": y\r\n", "header_name"),
        ("no colon", "XY\r\n", "header_name"),
        ("nul in a name", "X\0: y\r\n", "header_name"),
        (
            "nul before a framing name",
            "\0Transfer-Encoding: chunked\r\n",
            "header_name",
        ),
        (
            "vertical tab before a name",
            "\u{b}Transfer-Encoding: chunked\r\n",
            "header_name",
        ),
        (
            "control byte after a framing name",
            "Transfer-Encoding\u{1}: chunked\r\n",
            "header_name",
        ),
        ("utf-8 in a name", "X\u{e9}: y\r\n", "header_name"),
        ("parenthesis in a name", "X(: y\r\n", "header_name"),
        ("quote in a name", "\"X\": y\r\n", "header_name"),
        ("nul in a value", "X: a\0b\r\n", "header_value"),
        ("carriage return in a value", "X: a\rb\r\n", "header_value"),
        ("two carriage returns at the end", "X: a\r\r\n", "header_value"),
        ("delete in a value", "X: a\u{7f}\r\n", "header_value"),
        ("form feed in a value", "X: a\u{c}\r\n", "header_value"),
        ("escape in a value", "X: \u{1b}[31m\r\n", "header_value"),
        (
            "smuggled line by carriage return",
            "X: a\rTransfer-Encoding: chunked\r\n",
            "header_value",
        ),
        (
            "smuggled line by line feed",
            "X: a\nTransfer-Encoding: chunked\r\n",
            "bare_line_feed",
        ),
        ("underscore length", "Content_Length: 5\r\n", "header_alias"),
        ("underscore encoding", "Transfer_Encoding: chunked\r\n", "header_alias"),
        (
            "underscore encoding in capitals",
            "TRANSFER_ENCODING: chunked\r\n",
            "header_alias",
        ),
    ] {
        t.refuse(name, 400, code, with(headers));
    }
    t.refuse(
        "space before the first header",
        400,
        "folded_line",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    );
    t.refuse("line feeds only", 400, "bare_line_feed", "GET / HTTP/1.1\nHost: a\n\n");
    t.refuse(
        "line feed after the request line",
        400,
        "bare_line_feed",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
    );
    t.refuse(
        "line feed as the end of the head",
        400,
        "bare_line_feed",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
    );
    t.refuse(
        "carriage returns as line ends",
        400,
        "request_line",
        "GET / HTTP/1.1\rHost: a\r\r\n",
    );
}

pub(super) fn hosts(t: &mut Table) {
    t.refuse("no host", 400, "host_missing", "GET / HTTP/1.1\r\n\r\n");
    t.refuse(
        "no host but an absolute target",
        400,
        "host_missing",
        "GET http://a/ HTTP/1.1\r\n\r\n",
    );
    t.refuse(
        "two equal hosts",
        400,
        "host_repeated",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    );
    t.refuse(
        "two different hosts",
        400,
        "host_repeated",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n",
    );
    for (name, host) in [
        ("empty host", ""),
        ("host with user", "x@a"),
        ("host with path", "a/b"),
        ("host list", "a,b"),
        ("host with space", "a b"),
        ("host with a bad port", "a:x"),
        ("host with an empty port", "a:"),
        ("host with two ports", "a:1:2"),
        ("host with a large port", "a:65536"),
        ("host with a scheme", "http://a"),
        ("host with an open bracket", "[::1"),
        ("host with a bad address", "[a]"),
        ("host with percent", "a%00b"),
        ("host with question mark", "a?b"),
        ("host with fragment", "a#b"),
        ("host with quote", "a\"b"),
    ] {
        t.refuse(name, 400, "host", format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}

pub(super) fn hop_by_hop(t: &mut Table) {
    t.refuse(
        "upgrade to h2c",
        501,
        "upgrade",
        with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
    );
    t.refuse(
        "upgrade to websocket",
        501,
        "upgrade",
        with("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    );
    t.refuse(
        "http2 settings alone",
        501,
        "upgrade",
        with("HTTP2-Settings: AAMAAABk\r\n"),
    );
    t.refuse(
        "unknown expectation",
        417,
        "expectation",
        post("Expect: 200-ok\r\nContent-Length: 0\r\n", ""),
    );
    t.refuse(
        "expectation list",
        417,
        "expectation",
        post("Expect: 100-continue, x\r\nContent-Length: 0\r\n", ""),
    );
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Authorization",
        "Idempotency-Key",
        "Content-Type",
        "PayPal-Request-Id",
    ] {
        t.refuse(
            &format!("connection names {name}"),
            400,
            "connection_option",
            with(&format!("Connection: close, {name}\r\n")),
        );
    }
}

pub(super) fn limits(t: &mut Table) {
    let headers = |n: usize| (1..n).map(|i| format!("X-{i}: y\r\n")).collect::<String>();
    t.pass("a hundred headers", with(&headers(100)), &["GET / "]);
    t.refuse(
        "a hundred and one headers",
        431,
        "too_many_headers",
        with(&headers(101)),
    );
    t.refuse(
        "head too large",
        431,
        "head_too_large",
        with(&format!("X: {}\r\n", "y".repeat(70_000))),
    );
    t.refuse(
        "head too large, many lines",
        431,
        "head_too_large",
        with(&format!("X: {}\r\n", "y".repeat(1000)).repeat(70)),
    );
    t.refuse(
        "head too large and never ending",
        431,
        "head_too_large",
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(70_000)),
    );
    t.refuse(
        "target too long",
        414,
        "target_too_long",
        get(&format!("/{}", "y".repeat(17_000))),
    );
    t.refuse(
        "target too long and never ending",
        414,
        "target_too_long",
        format!("GET /{}", "y".repeat(17_000)),
    );
    let long = "y".repeat(60_000);
    t.pass(
        "large head within the limit",
        with(&format!("X: {long}\r\n")),
        &["GET / "],
    );
}
