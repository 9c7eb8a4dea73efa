//! The table of cases: bytes, and what must become of them.
//!
//! Sources: RFC 9112 and 9110; hyper's measured behaviour; the classes of the desync literature (CL.TE, TE.CL, TE.TE, CL.0,
//! chunk extensions, header-name tricks, pipelined second requests); llhttp's and http-desync-guardian's vocabularies.

mod bodies;
mod heads;

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
    heads::request_lines(&mut table);
    heads::targets(&mut table);
    heads::lines_and_names(&mut table);
    heads::hosts(&mut table);
    bodies::lengths(&mut table);
    bodies::encodings(&mut table);
    bodies::chunks(&mut table);
    heads::hop_by_hop(&mut table);
    heads::limits(&mut table);
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
