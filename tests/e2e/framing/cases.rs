//! The table of cases: bytes, and what must become of them.
//!
//! Sources: RFC 9112 and 9110; hyper's measured behaviour; the classes of the desync literature (CL.TE, TE.CL, TE.TE, CL.0,
//! chunk extensions, header-name tricks, pipelined second requests); llhttp's and http-desync-guardian's vocabularies.

/// What must become of a case.
pub enum Verdict {
    /// Exactly these requests are seen, and the connection goes on.
    Pass(Vec<&'static str>),
    /// Exactly these requests are seen, and the connection closes, as the last of them asked.
    Last(Vec<&'static str>),
    /// These requests are seen; the next head is refused with this status and code.
    Refuse(u16, &'static str, Vec<&'static str>),
    /// These requests are seen, the last with a body that broke off; it is answered 400 and the connection closes.
    Broken(Vec<&'static str>),
    /// Nothing is seen, and the connection closes without an answer: it does not speak HTTP.
    Silent,
}

/// One case.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
}

struct Table(Vec<Case>);

impl Table {
    fn pass(&mut self, name: &str, bytes: impl AsRef<[u8]>, seen: &[&'static str]) {
        self.add(name, bytes, Verdict::Pass(seen.to_vec()));
    }

    fn last(&mut self, name: &str, bytes: impl AsRef<[u8]>, seen: &[&'static str]) {
        self.add(name, bytes, Verdict::Last(seen.to_vec()));
    }

    fn refuse(&mut self, name: &str, status: u16, code: &'static str, bytes: impl AsRef<[u8]>) {
        self.add(name, bytes, Verdict::Refuse(status, code, Vec::new()));
    }

    fn refuse_after(
        &mut self,
        name: &str,
        seen: &[&'static str],
        status: u16,
        code: &'static str,
        bytes: impl AsRef<[u8]>,
    ) {
        self.add(name, bytes, Verdict::Refuse(status, code, seen.to_vec()));
    }

    fn broken(&mut self, name: &str, bytes: impl AsRef<[u8]>, seen: &[&'static str]) {
        self.add(name, bytes, Verdict::Broken(seen.to_vec()));
    }

    fn silent(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        self.add(name, bytes, Verdict::Silent);
    }

    fn add(&mut self, name: &str, bytes: impl AsRef<[u8]>, verdict: Verdict) {
        self.0.push(Case {
            name: name.to_owned(),
            bytes: bytes.as_ref().to_vec(),
            verdict,
        });
    }
}

/// A GET with the given target.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A GET with extra header lines, each ended by CRLF.
fn with(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

/// A POST to `/p` with extra header lines, and a body.
fn post(headers: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

/// A POST with a chunked body.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// All cases.
pub fn all() -> Vec<Case> {
    let mut table = Table(Vec::new());
    accepted(&mut table);
    request_lines(&mut table);
    targets(&mut table);
    lines_and_names(&mut table);
    hosts(&mut table);
    lengths(&mut table);
    encodings(&mut table);
    chunks(&mut table);
    hop_by_hop(&mut table);
    limits(&mut table);
    pipelines(&mut table);
    table.0
}

fn accepted(t: &mut Table) {
    t.pass("plain get", get("/"), &["GET / "]);
    t.pass("two pipelined gets", get("/1") + &get("/2"), &["GET /1 ", "GET /2 "]);
    t.pass(
        "length body",
        post("Content-Length: 5\r\n", "hello"),
        &["POST /p hello"],
    );
    t.pass("length zero", post("Content-Length: 0\r\n", ""), &["POST /p "]);
    t.pass("post without length has no body", post("", ""), &["POST /p "]);
    t.pass("chunked body", chunked("5\r\nhello\r\n0\r\n\r\n"), &["POST /p hello"]);
    t.pass(
        "chunked in pieces",
        chunked("1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n"),
        &["POST /p hello"],
    );
    t.pass("chunked empty", chunked("0\r\n\r\n"), &["POST /p "]);
    t.pass(
        "chunk size in both cases",
        chunked("A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n"),
        &["POST /p 0123456789abcdefghij"],
    );
    t.pass(
        "chunk size with leading zeros",
        chunked("0005\r\nhello\r\n000\r\n\r\n"),
        &["POST /p hello"],
    );
    t.pass(
        "chunk extension",
        chunked("5;a=b\r\nhello\r\n0\r\n\r\n"),
        &["POST /p hello"],
    );
    t.pass(
        "chunk extension quoted",
        chunked("5;a=\"b c\"\r\nhello\r\n0;x\r\n\r\n"),
        &["POST /p hello"],
    );
    t.pass(
        "body that looks like a request",
        post("Content-Length: 29\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n\r\nz"),
        &["POST /p GET /x HTTP/1.1\r\nHost: a\r\n\r\nz"],
    );
    t.pass(
        "chunk that looks like the last",
        chunked("5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
        &["POST /p 0\r\n\r\n"],
    );
    t.pass(
        "get with body",
        "GET /g HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        &["GET /g hi"],
    );
    t.pass(
        "delete with body",
        "DELETE /g HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        &["DELETE /g hi"],
    );
    t.pass(
        "raw brackets in the query",
        get("/v1/x?expand[0]=a&b[c][]=d"),
        &["GET /v1/x?expand[0]=a&b[c][]=d "],
    );
    t.pass(
        "dots in the query",
        get("/v1/x?p=/../a%2fb"),
        &["GET /v1/x?p=/../a%2fb "],
    );
    t.pass(
        "dots inside a segment",
        get("/a..b/.well/...x"),
        &["GET /a..b/.well/...x "],
    );
    t.pass("empty query", get("/a?"), &["GET /a? "]);
    t.pass("double slash", get("//a//b"), &["GET //a//b "]);
    t.pass(
        "double encoded dots stay encoded",
        get("/%252e%252e/"),
        &["GET /%252e%252e/ "],
    );
    t.pass(
        "one empty line before the request",
        "\r\n".to_owned() + &get("/"),
        &["GET / "],
    );
    t.pass(
        "an empty line between requests",
        get("/1") + "\r\n" + &get("/2"),
        &["GET /1 ", "GET /2 "],
    );
    t.pass(
        "absolute target of this host",
        "GET http://a/abs HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /abs "],
    );
    t.pass(
        "absolute target, host in another case",
        "GET HTTP://A:80/abs HTTP/1.1\r\nHost: a:80\r\n\r\n",
        &["GET /abs "],
    );
    t.pass(
        "host with port",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n",
        &["GET / "],
    );
    t.pass(
        "host of version 6",
        "GET / HTTP/1.1\r\nHost: [::1]:8081\r\n\r\n",
        &["GET / "],
    );
    t.pass(
        "header names in any case",
        "GET / HTTP/1.1\r\nhOST:a\r\n\r\n",
        &["GET / "],
    );
    t.pass(
        "space around values",
        "GET / HTTP/1.1\r\nHost: \t a \t\r\nContent-Length:\t0 \r\n\r\n",
        &["GET / "],
    );
    t.pass("empty header value", with("X:\r\nY: \r\n"), &["GET / "]);
    t.pass("tab inside a value", with("X: a\tb\r\n"), &["GET / "]);
    t.pass(
        "obs-text in a value",
        [b"GET / HTTP/1.1\r\nHost: a\r\nX: ".as_slice(), b"\xe9\xff", b"\r\n\r\n"].concat(),
        &["GET / "],
    );
    t.pass(
        "every token character in a name",
        with("!#$%&'*+-.^_`|~09azAZ: x\r\n"),
        &["GET / "],
    );
    t.pass(
        "custom upper-case method",
        "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n",
        &["PURGE / "],
    );
    t.pass(
        "expect continue",
        post("Expect: 100-continue\r\nContent-Length: 2\r\n", "hi"),
        &["POST /p hi"],
    );
    t.pass("te trailers", with("TE: trailers\r\nConnection: TE\r\n"), &["GET / "]);
    t.pass(
        "trailer announced and absent",
        post("Trailer: X\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        &["POST /p "],
    );
    t.pass("connection keep-alive", with("Connection: keep-alive\r\n"), &["GET / "]);
    t.pass(
        "underscore header of no meaning",
        with("idempotency_key: x\r\n"),
        &["GET / "],
    );
    t.last("connection close", with("Connection: close\r\n"), &["GET / "]);
    t.last(
        "connection close in a list",
        with("Connection: x-a , Close\r\n"),
        &["GET / "],
    );
    t.last("version 1.0 without host", "GET / HTTP/1.0\r\n\r\n", &["GET / "]);
    t.last(
        "version 1.0 with body",
        "POST /p HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
        &["POST /p hi"],
    );
    t.pass(
        "version 1.0 kept alive",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        &["GET / "],
    );
}

fn request_lines(t: &mut Table) {
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

fn targets(t: &mut Table) {
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

fn lines_and_names(t: &mut Table) {
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

fn hosts(t: &mut Table) {
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

fn lengths(t: &mut Table) {
    for (name, value) in [
        ("length with plus", "+2"),
        ("length negative", "-2"),
        ("length in hexadecimal", "0x2"),
        ("length list of equals", "2,2"),
        ("length list of equals with space", "2, 2"),
        ("length list of differing", "2,3"),
        ("length empty", ""),
        ("length with inner space", "2 2"),
        ("length with exponent", "2e0"),
        ("length with point", "2.0"),
        ("length with underscore", "1_0"),
        ("length with leading zero", "02"),
        ("length with quote", "\"2\""),
        ("length beyond 64 bits", "18446744073709551618"),
        ("length beyond signed 64 bits", "9223372036854775808"),
        ("length with letters", "2a"),
        ("length in other digits", "\u{662}"),
        ("length with semicolon", "2;"),
    ] {
        t.refuse(
            name,
            400,
            "content_length",
            post(&format!("Content-Length: {value}\r\n"), "hi"),
        );
    }
    t.refuse(
        "length repeated, equal",
        400,
        "content_length_repeated",
        post("Content-Length: 2\r\nContent-Length: 2\r\n", "hi"),
    );
    t.refuse(
        "length repeated, differing",
        400,
        "content_length_repeated",
        post("Content-Length: 2\r\ncontent-length: 0\r\n", "hi"),
    );
    t.refuse(
        "length repeated, zero",
        400,
        "content_length_repeated",
        post("Content-Length: 0\r\nX: y\r\nCONTENT-LENGTH: 0\r\n", ""),
    );
    t.refuse_after(
        "body shorter than its bytes (CL.0)",
        &["POST /p "],
        400,
        "method",
        post("Content-Length: 0\r\n", "x=y") + &get("/admin"),
    );
    t.pass(
        "smuggled request is a request (CL.0 pipelined)",
        post("Content-Length: 0\r\n", "") + &get("/2"),
        &["POST /p ", "GET /2 "],
    );
    t.refuse_after(
        "length one too short",
        &["POST /p hell"],
        400,
        "method",
        post("Content-Length: 4\r\n", "helloGET"),
    );
}

fn encodings(t: &mut Table) {
    let both = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n";
    t.refuse(
        "length then encoding (CL.TE)",
        400,
        "length_and_encoding",
        post(both, "0\r\n\r\nG"),
    );
    t.refuse(
        "encoding then length (TE.CL)",
        400,
        "length_and_encoding",
        post(
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            "12\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n",
        ),
    );
    t.refuse(
        "length zero and encoding",
        400,
        "length_and_encoding",
        post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    );
    t.refuse(
        "encoding and bad length",
        400,
        "length_and_encoding",
        post("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", ""),
    );
    for (name, value) in [
        ("encoding in upper case", "CHUNKED"),
        ("encoding capitalised", "Chunked"),
        ("encoding xchunked", "xchunked"),
        ("encoding chunked with parameter", "chunked;q=1"),
        ("encoding chunked twice in a list", "chunked, chunked"),
        ("encoding gzip then chunked", "gzip, chunked"),
        ("encoding chunked then gzip", "chunked, gzip"),
        ("encoding identity", "identity"),
        ("encoding identity then chunked", "identity, chunked"),
        ("encoding chunked then identity", "chunked, identity"),
        ("encoding empty", ""),
        ("encoding comma", ","),
        ("encoding chunked and comma", "chunked,"),
        ("encoding comma and chunked", ",chunked"),
        ("encoding quoted", "\"chunked\""),
        ("encoding in single quotes", "'chunked'"),
        ("encoding chunk", "chunk"),
        ("encoding with inner space", "chun ked"),
        ("encoding cow", "cow"),
    ] {
        t.refuse(
            name,
            400,
            "transfer_encoding",
            post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n"),
        );
    }
    for (name, value, code) in [
        ("encoding with vertical tab (TE.TE)", "\u{b}chunked", "header_value"),
        ("encoding with form feed (TE.TE)", "\u{c}chunked", "header_value"),
        ("encoding with nul (TE.TE)", "chunked\0", "header_value"),
        (
            "encoding with trailing carriage return (TE.TE)",
            "chunked\r",
            "header_value",
        ),
        (
            "encoding with no-break space (TE.TE)",
            "\u{a0}chunked",
            "transfer_encoding",
        ),
        (
            "encoding behind a line feed (TE.TE)",
            "x\nTransfer-Encoding: chunked",
            "bare_line_feed",
        ),
    ] {
        t.refuse(
            name,
            400,
            code,
            post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n"),
        );
    }
    for coding in ["gzip", "deflate", "compress"] {
        t.refuse(
            &format!("coding {coding}"),
            501,
            "transfer_coding",
            post(&format!("Transfer-Encoding: {coding}\r\n"), ""),
        );
    }
    t.pass(
        "encoding with space around",
        post("Transfer-Encoding: \t chunked \t\r\n", "0\r\n\r\n"),
        &["POST /p "],
    );
    t.refuse(
        "encoding repeated (TE.TE)",
        400,
        "transfer_encoding",
        post(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
    );
    t.refuse(
        "encoding repeated, second odd (TE.TE)",
        400,
        "transfer_encoding",
        post("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", "0\r\n\r\n"),
    );
    t.refuse(
        "encoding repeated, first odd (TE.TE)",
        400,
        "transfer_encoding",
        post("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    );
    t.refuse(
        "encoding in 1.0",
        400,
        "encoding_in_old_version",
        "POST /p HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    t.refuse(
        "encoding in 1.0 kept alive",
        400,
        "encoding_in_old_version",
        "POST /p HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    t.refuse(
        "encoding on a get",
        400,
        "transfer_encoding",
        with("Transfer-Encoding: identity\r\n"),
    );
}

fn chunks(t: &mut Table) {
    for (name, body) in [
        ("chunk size empty", "\r\nhello\r\n0\r\n\r\n"),
        ("chunk size negative", "-5\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with space in front", " 5\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with space behind", "5 \r\nhello\r\n0\r\n\r\n"),
        ("chunk size with tab behind", "5\t\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with letters", "5g\r\nhello\r\n0\r\n\r\n"),
        ("chunk size too long", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("chunk size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("chunk size and line feed", "5\nhello\r\n0\r\n\r\n"),
        ("chunk size and carriage return", "5\rhello\r\n0\r\n\r\n"),
        ("chunk size and two carriage returns", "5\r\r\nhello\r\n0\r\n\r\n"),
        ("chunk extension and line feed (TERM.EXT)", "5;a\nhello\r\n0\r\n\r\n"),
        ("chunk extension with carriage return", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("chunk extension with nul", "5;a\0\r\nhello\r\n0\r\n\r\n"),
        ("chunk extension in utf-8", "5;\u{e9}\r\nhello\r\n0\r\n\r\n"),
        (
            "chunk extension smuggles a line feed",
            "2;\nxx\r\n4c\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        ("chunk data without line end", "5\r\nhello0\r\n\r\n"),
        ("chunk data and line feed", "5\r\nhello\n0\r\n\r\n"),
        ("chunk data and carriage return", "5\r\nhello\r0\r\n\r\n"),
        ("chunk data too long", "5\r\nhello!\r\n0\r\n\r\n"),
        ("chunk data too short", "6\r\nhello\r\n0\r\n\r\n"),
        ("chunk data and two bytes (2.TERM)", "5\r\nhelloxx0\r\n\r\n"),
        ("last chunk and line feed", "5\r\nhello\r\n0\n\r\n"),
        ("last chunk, end and line feed", "5\r\nhello\r\n0\r\n\n"),
        ("last chunk, end and bytes", "5\r\nhello\r\n0\r\n\rx"),
        ("trailer", "5\r\nhello\r\n0\r\nX: y\r\n\r\n"),
        ("trailer with length", "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n"),
        (
            "trailer with encoding",
            "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "trailer with authorization",
            "5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n",
        ),
        ("trailer folded", "5\r\nhello\r\n0\r\n X: y\r\n\r\n"),
    ] {
        t.broken(name, chunked(body), &["POST /p !"]);
    }
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1025));
    t.broken("chunk extension too long", chunked(&long), &["POST /p !"]);
    t.broken(
        "broken after a good request",
        get("/1") + &chunked("z\r\n"),
        &["GET /1 ", "POST /p !"],
    );
}

fn hop_by_hop(t: &mut Table) {
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

fn limits(t: &mut Table) {
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

fn pipelines(t: &mut Table) {
    t.refuse_after(
        "good then bad",
        &["GET /1 "],
        400,
        "host_missing",
        get("/1") + "GET /2 HTTP/1.1\r\n\r\n",
    );
    t.refuse_after(
        "two good then bad",
        &["GET /1 ", "POST /p hi"],
        400,
        "path",
        get("/1") + &post("Content-Length: 2\r\n", "hi") + &get("/../x"),
    );
    t.refuse("bad then good", 400, "path", get("/../x") + &get("/2"));
    t.refuse(
        "smuggled behind both framings",
        400,
        "length_and_encoding",
        post("Content-Length: 30\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n") + &get("/admin"),
    );
    t.refuse_after(
        "good, then lower-case",
        &["POST /p hi"],
        400,
        "method",
        post("Content-Length: 2\r\n", "hi") + "get / HTTP/1.1\r\n\r\n",
    );
    t.refuse_after(
        "good chunked, then remains",
        &["POST /p hi"],
        400,
        "method",
        chunked("2\r\nhi\r\n0\r\n\r\n0\r\n\r\n"),
    );
    t.refuse_after(
        "good, then two empty lines",
        &["GET /1 "],
        400,
        "empty_line",
        get("/1") + "\r\n\r\n" + &get("/2"),
    );
    t.last(
        "close ends what follows",
        with("Connection: close\r\n") + &get("/2"),
        &["GET / "],
    );
    t.last(
        "close ends what is bad",
        with("Connection: close\r\n") + "bad\n",
        &["GET / "],
    );
    let bodies = [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ];
    let mut many = String::new();
    for round in 0..10 {
        many += "POST /p HTTP/1.1\r\nHost: a\r\n";
        many += bodies[round % 2];
    }
    t.pass("ten pipelined bodies", many, &["POST /p abc"; 10]);
    t.pass("fifty pipelined gets", get("/").repeat(50), &["GET / "; 50]);
}
