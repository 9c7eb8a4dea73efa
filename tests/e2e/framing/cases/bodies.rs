//! Bodies: lengths, transfer codings and chunks.

use super::{Table, chunked, get, post, with};

pub(super) fn lengths(t: &mut Table) {
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

pub(super) fn encodings(t: &mut Table) {
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

pub(super) fn chunks(t: &mut Table) {
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
