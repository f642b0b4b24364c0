# Varnish 7 in front of the gallery: holds what the origin's Surrogate-Control lets it hold, until it is purged.
# README.md beside this file says how to start it, what it promises and why. Adapt the lines that end in "# yours".
vcl 4.1;

import header; # this, var and xkey are in the package varnish-modules
import purge;
import std;
import var;
import xkey;

backend origin {
    .host = "127.0.0.1"; # yours
    .port = "8000"; # yours
    .connect_timeout = 2s;
    .first_byte_timeout = 30s;
    .between_bytes_timeout = 30s;
}

# Who may purge: the hosts of the origin's processes. If VARNISH_PURGE_TOKEN is in the environment, purges need it too.
acl purgers {
    "127.0.0.1"; # yours
    "::1"; # yours
}

# Who terminates TLS: only their X-Forwarded-Proto is believed.
acl terminators {
    "127.0.0.1"; # yours
    "::1"; # yours
}

# --- A request ----------------------------------------------------------------------------------------------

sub vcl_recv {
    if (req.restarts == 0) {
        call clean_headers;
        call clean_range;
    }
    call check_host;
    if (req.method == "PURGE" || req.method == "BAN") {
        call purge_or_ban;
    }
    if (req.method == "CONNECT" || req.method == "TRACE") {
        return (synth(405));
    }
    if (std.integer(req.http.Content-Length, 0) > 2621440) { # the origin's DATA_UPLOAD_MAX_MEMORY_SIZE
        return (synth(413, "Content Too Large"));
    }
    if (req.http.Transfer-Encoding && req.method != "GET" && req.method != "HEAD") { # the origin reads none of it
        return (synth(411, "Length Required"));
    }
    call choose_pass;
    call normalise_query;
    call normalise_coding;
    unset req.http.Cookie;
    return (hash);
}

# Collected: fields of which only the first line would be read here. Removed: fields by which a client could choose what
# others are shown, or pose as a proxy or as this file. Names with an underscore could do so too: WSGI takes them for
# those with a hyphen.
sub clean_headers {
    header.regsub(req, "^[^:]*_[^:]*:.*", "X-Underscored: 1");
    unset req.http.X-Underscored;
    std.collect(req.http.Accept-Encoding);
    std.collect(req.http.Accept-Language);
    std.collect(req.http.Cookie, "; ");
    std.collect(req.http.If-None-Match);
    std.collect(req.http.Origin);
    unset req.http.Forwarded;
    unset req.http.Proxy;
    unset req.http.Surrogate-Capability;
    unset req.http.X-Forwarded-Host;
    unset req.http.X-Forwarded-Path;
    unset req.http.X-Forwarded-Port;
    unset req.http.X-Forwarded-Prefix;
    unset req.http.X-Forwarded-Scheme;
    unset req.http.X-Forwarded-Server;
    unset req.http.X-Host;
    unset req.http.X-HTTP-Host-Override;
    unset req.http.X-HTTP-Method;
    unset req.http.X-HTTP-Method-Override;
    unset req.http.X-Method-Override;
    unset req.http.X-Original-Host;
    unset req.http.X-Original-URL;
    unset req.http.X-Rewrite-URL;
    unset req.http.X-Origin-Failed;
    if (remote.ip !~ terminators || req.http.X-Forwarded-Proto != "https") {
        set req.http.X-Forwarded-Proto = "http";
    }
}

# A GET may ask for one range of bytes. Any other Range may be ignored (RFC 9110 section 14.2). Varnish would answer it
# with a 416, or a 503 if it passes the request, and would send a part to HEAD.
sub clean_range {
    std.collect(req.http.Range);
    if (req.method != "GET" || req.http.Range !~ "(?i)^bytes=([0-9]{1,15}-[0-9]{0,15}|-0*[1-9][0-9]{0,14})$") {
        unset req.http.Range;
    }
    if (req.http.Range ~ "[0-9]-[0-9]" && std.integer(regsub(req.http.Range, "^.*=([0-9]+)-.*$", "\1"), 0)
        > std.integer(regsub(req.http.Range, "^.*-", ""), 0)) {
        unset req.http.Range;
    }
}

# Give each host one spelling (RFC 9110 section 4.2.3). Which hosts exist, the origin's ALLOWED_HOSTS decides.
sub check_host {
    set req.http.Host = regsub(std.tolower(req.http.Host), "\.?(?::(?:80|443))?$", "");
    if (req.http.Host !~ "^(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]+)?$") {
        return (synth(400));
    }
}

# Requests that are never looked up or held: RFC 9111 sections 2 and 3.5, and paths that could be read in two ways.
sub choose_pass {
    if (req.method != "GET" && req.method != "HEAD") {
        var.set("way", "fwd=method");
        return (pass);
    }
    if (req.http.Authorization || req.http.Cookie ~ "(^|;)[ \t]*sessionid[ \t]*=") {
        var.set("way", "fwd=request; detail=credentials");
        return (pass);
    }
    if (req.url !~ "^/(api|files|static)/" || req.url !~ "^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?(\?|$)") {
        var.set("way", "fwd=bypass");
        return (pass);
    }
}

# As in the origin (keybits/query.py), the order of parameters has no meaning, and neither have these parameters.
sub normalise_query {
    set req.url = regsuball(req.url, "&((utm_[^=&]*|gclid|fbclid|_)(=[^&]*)?)?(?=&|$)", "");
    set req.url = regsub(req.url, "^([^?]*\?)((utm_[^=&]*|gclid|fbclid|_)(=[^&]*)?)?(&|$)", "\1");
    set req.url = std.querysort(regsub(req.url, "^([^?]*)\?$", "\1"));
}

# Each content coding is a representation with its own ETag, made by the origin. A request is reduced to at most one, so
# that Vary makes no needless variants: the first of br, zstd and gzip that it accepts with full weight. The request is
# passed if lower weights decide, identity is refused or a coding is named twice (RFC 9110 section 12.5.3).
sub normalise_coding {
    var.set("codings", "," + regsuball(std.tolower(req.http.Accept-Encoding), "[ \t]+", "") + ",");
    var.set("codings", regsuball(var.get("codings"), ";q=1(\.0{0,3})?(?=,)", ""));
    if (var.get("codings") ~ ",(\*|identity;q=0(\.0{0,3})?,|(br|zstd|(x-)?gzip)[,;](.*,)?\3[,;])") {
        var.set("way", "fwd=request; detail=codings");
        return (pass);
    }
    var.set("codings", regsuball(var.get("codings"), ",[^,;]*;q=0(\.0{0,3})?(?=,)", ""));
    if (var.get("codings") ~ ",(br|zstd|(x-)?gzip);") {
        var.set("way", "fwd=request; detail=codings");
        return (pass);
    }
    unset req.http.Accept-Encoding;
    if (var.get("codings") ~ ",br,") {
        set req.http.Accept-Encoding = "br";
    } elsif (var.get("codings") ~ ",zstd,") {
        set req.http.Accept-Encoding = "zstd";
    } elsif (var.get("codings") ~ ",(x-)?gzip,") {
        set req.http.Accept-Encoding = "gzip";
    }
    var.set("coding", req.http.Accept-Encoding);
}

# --- A purge ------------------------------------------------------------------------------------------------

# "last purge" tells fetches in progress that their response may predate the purge, which cannot reach them.
sub purge_or_ban {
    call check_purger;
    var.global_set("last purge", req.xid);
    if (req.method == "BAN") {
        call ban_keys;
    }
    if (req.http.xkey-purge) {
        var.set_int("purged", xkey.purge(req.http.xkey-purge));
        return (synth(200, "Purged"));
    }
    if (req.http.xkey-softpurge) {
        var.set_int("purged", xkey.softpurge(req.http.xkey-softpurge));
        return (synth(200, "Purged"));
    }
    call normalise_query;
    set req.hash_ignore_busy = true; # a purge does not wait for fetches
    return (hash);
}

# A second address in X-Forwarded-For means that the request came through a proxy that the ACL admits.
sub check_purger {
    if (client.ip !~ purgers || req.http.X-Forwarded-For ~ ",") {
        return (synth(403));
    }
    if (std.getenv("VARNISH_PURGE_TOKEN") && req.http.X-Purge-Token != std.getenv("VARNISH_PURGE_TOKEN")) {
        return (synth(403));
    }
}

# The ban tests the object alone, so that the ban lurker can process it. Bans are parsed into words, so the keys must
# not contain spaces.
sub ban_keys {
    if (req.http.xkey-ban !~ "^[A-Za-z0-9_-]+(\|[A-Za-z0-9_-]+)*$") {
        return (synth(400));
    }
    if (!std.ban("obj.http.xkey ~ (^|\s)(" + req.http.xkey-ban + ")(\s|$)")) {
        return (synth(500, std.ban_error()));
    }
    return (synth(200, "Banned"));
}

# By URL: all variants are purged.
sub purge_url {
    if (req.http.X-Soft == "1") {
        var.set_int("purged", purge.soft(0s));
    } else {
        var.set_int("purged", purge.hard());
    }
    return (synth(200, "Purged"));
}

# --- What was found -----------------------------------------------------------------------------------------

# The object may have outlived its lifetime: it is kept for stale-while-revalidate and for failures of the origin.
sub vcl_hit {
    if (req.method == "PURGE") {
        call purge_url;
    }
    var.set("way", "hit");
    if (obj.ttl >= 0s || req.http.X-Origin-Failed || req.grace == 0s
        || obj.ttl + std.duration(obj.http.X-Stale-While, 0s) >= 0s) {
        return (deliver);
    }
    set req.grace = 0s;
    return (restart);
}

sub vcl_miss {
    if (req.method == "PURGE") {
        call purge_url;
    }
    if (var.get("coding") != "" && req.http.Accept-Encoding != var.get("coding")) {
        std.syslog(3, "Start varnishd with -p http_gzip_support=off: the origin makes the content codings.");
        return (synth(500));
    }
    if (req.http.X-Origin-Failed) {
        return (synth(std.integer(req.http.X-Origin-Failed, 503)));
    }
    var.set("way", "miss");
}

# --- The origin ---------------------------------------------------------------------------------------------

sub vcl_backend_fetch {
    if (bereq.is_bgfetch && bereq.http.X-Origin-Failed) {
        return (abandon); # the origin has just failed
    }
    var.set("last purge", "last purge: " + var.global_get("last purge"));
}

sub vcl_backend_response {
    unset beresp.http.X-Asked;
    unset beresp.http.X-Coding;
    unset beresp.http.X-Failed;
    unset beresp.http.X-Fetched;
    unset beresp.http.X-Purged;
    unset beresp.http.X-Stale-If-Error;
    unset beresp.http.X-Stale-While;
    if (bereq.uncacheable) {
        if (bereq.method == "HEAD" && beresp.http.Content-Encoding) {
            set beresp.http.X-Coding = beresp.http.Content-Encoding; # Varnish drops it if there is no content
        }
        return (deliver);
    }
    call describe_fetch;
    if (beresp.status >= 500 && bereq.http.If-None-Match) {
        return (error(beresp.status, beresp.reason)); # a stale object may be shown instead
    }
    call set_lifetime;
    if (beresp.ttl <= 0s) {
        call hold_nothing;
    }
    # A purge came during the fetch. The response may predate it, and requests that came after it may be waiting for
    # the response: fetch again, and if purges keep coming, let each of them fetch for itself.
    if (var.get("last purge") != "last purge: " + var.global_get("last purge")) {
        if (bereq.retries < 2) {
            return (retry);
        }
        call hold_nothing;
    }
    call hold;
}

sub describe_fetch {
    set beresp.http.X-Asked = "fwd=uri-miss";
    if (bereq.http.If-None-Match) {
        set beresp.http.X-Asked = "fwd=stale; fwd-status=" + beresp.status;
        if (beresp.was_304) {
            set beresp.http.X-Asked = "fwd=stale; fwd-status=304";
        }
    }
}

# The lifetime is that of Surrogate-Control, which is for caches that are purged; without it, an explicit one of
# Cache-Control. There are no heuristic lifetimes (RFC 9111 section 4.2.2).
sub set_lifetime {
    set beresp.http.X-Terms = beresp.http.Cache-Control;
    if (beresp.http.Surrogate-Control) {
        set beresp.http.X-Terms = beresp.http.Surrogate-Control;
        set beresp.ttl = std.duration(regsub(beresp.http.X-Terms, "(?i)^(?:.*[, ])?max-age=([0-9]+).*$", "\1s"), 0s);
    }
    set beresp.http.X-Stale-While =
        regsub(beresp.http.X-Terms, "(?i)^.*stale-while-revalidate=([0-9]+).*$", "\1s");
    set beresp.http.X-Stale-If-Error = regsub(beresp.http.X-Terms, "(?i)^.*stale-if-error=([0-9]+).*$", "\1s");
    if (beresp.http.X-Terms !~ "(?i)max-?age=" || beresp.http.X-Terms ~ "(?i)no-store|no-cache"
        || beresp.http.Cache-Control ~ "(?i)no-store|private"
        || beresp.http.Set-Cookie || beresp.http.Vary ~ "\*" || beresp.status >= 500) {
        set beresp.ttl = 0s;
    }
    unset beresp.http.X-Terms;
}

# For the next seconds, requests are fetched independently and do not wait, until there is something to hold. This
# hit-for-miss object is kept as expired, so that it never hides an object that is held: the newest counts.
sub hold_nothing {
    set beresp.uncacheable = true;
    set beresp.ttl = 1ms;
    set beresp.grace = 0s;
    set beresp.keep = 10s;
    return (deliver);
}

# After a 304, fields that it lacks are those of the stored object, including what was added here.
sub hold {
    set beresp.grace = std.duration(beresp.http.X-Stale-If-Error, 0s);
    if (std.duration(beresp.http.X-Stale-While, 0s) > beresp.grace) {
        set beresp.grace = std.duration(beresp.http.X-Stale-While, 0s);
    }
    set beresp.keep = 1d; # for revalidation
    set beresp.http.X-Asked = beresp.http.X-Asked + "; stored";
    set beresp.http.X-Purged = var.get("last purge");
    set beresp.http.X-Fetched = "fetched-" + bereq.xid;
    set beresp.http.xkey = regsuball(beresp.http.xkey, " ?fetched-[0-9]+", "");
    set beresp.http.xkey = regsub(beresp.http.xkey + " " + beresp.http.X-Fetched, "^ ", "");
    set beresp.http.Vary = regsuball(beresp.http.Vary, "(, )?X-Forwarded-Proto", "");
    set beresp.http.Vary = regsub(beresp.http.Vary + ", X-Forwarded-Proto", "^, ", "");
    return (deliver);
}

# For the request that was fetched and those that waited: vcl_deliver looks for a stale object to show instead. Requests
# that come after the failure are fetched again, since the origin may be back.
sub vcl_backend_error {
    if (bereq.is_bgfetch) {
        return (abandon);
    }
    set beresp.http.X-Failed = beresp.status;
    set beresp.http.Vary = "X-Origin-Failed";
    if (beresp.ttl > 0s) {
        set beresp.ttl = 1ms;
    }
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    return (deliver);
}

# --- The answer ---------------------------------------------------------------------------------------------

sub vcl_deliver {
    if (resp.http.X-Failed) {
        call after_failure;
    }
    call purge_what_slipped_through;
    call find_tag;
    call distrust_date;
    call check_range;
    call date;
    call say_what_was_done;
    if (resp.http.X-Coding) {
        set resp.http.Content-Encoding = resp.http.X-Coding;
    }
    call strip;
}

sub after_failure {
    if (req.http.X-Origin-Failed || var.get("way") ~ "^fwd") {
        return (synth(std.integer(resp.http.X-Failed, 503)));
    }
    set req.http.X-Origin-Failed = resp.http.X-Failed;
    set req.grace = 3650d;
    return (restart);
}

# The object became visible to purges at some time between vcl_backend_response, which compared the mark, and here. A
# purge that came before that time missed it.
sub purge_what_slipped_through {
    if (var.get("way") == "miss" && resp.http.X-Fetched
        && resp.http.X-Purged != "last purge: " + var.global_get("last purge")) {
        var.set_int("purged", xkey.softpurge(resp.http.X-Fetched));
    }
}

# Varnish compares a list as if it were one tag; reduce the list to the tag that matches (RFC 9110 section 13.1.2).
sub find_tag {
    if (resp.http.ETag && (req.http.If-None-Match ~ "^[ \t]*\*[ \t]*$"
        || std.strstr(req.http.If-None-Match, regsub(resp.http.ETag, "^W/", "")))) {
        set req.http.If-None-Match = resp.http.ETag;
    }
}

# A response made within the second of its Last-Modified may share that date with an earlier one (RFC 9110 section
# 8.8.2.2).
sub distrust_date {
    if (std.time(resp.http.Date, now) - std.time(resp.http.Last-Modified, now) < 1s) {
        unset req.http.If-Modified-Since;
    }
}

# A part belongs to what the client has only if the strong tag is the same; a date does not suffice (RFC 9110 section
# 13.1.5). Varnish's own 416 would have the lifetime of the content. If another condition may lead to a 304, the range
# is ignored.
sub check_range {
    if (req.http.If-Range && (req.http.If-Range != resp.http.ETag || resp.http.ETag ~ "^W/")) {
        unset req.http.Range;
    }
    var.set("length", resp.http.Content-Length);
    if (resp.status != 200 || req.http.Range !~ "=[0-9]" || var.get("length") == ""
        || std.integer(regsub(req.http.Range, "^.*=([0-9]+)-.*$", "\1"), 0) < std.integer(var.get("length"), 0)) {
        return;
    }
    if (req.http.If-None-Match || req.http.If-Modified-Since) {
        unset req.http.Range;
        return;
    }
    return (synth(416, "Range Not Satisfiable"));
}

# Until it is purged, a response held by Surrogate-Control is as good as one made now. Browsers that may store it for a
# time (max-age above 0) count that time from now, and not from when it was stored here.
sub date {
    if (resp.http.Surrogate-Control && obj.ttl > 0s && resp.http.Cache-Control ~ "(?i)(max-age|s-maxage)=0*[1-9]") {
        set resp.http.Age = "0";
        set resp.http.Date = now;
        unset resp.http.Expires;
    }
}

# Cache-Status (RFC 9211): the origin's members, followed by this cache's.
sub say_what_was_done {
    var.set("status", "varnish; " + var.get("way"));
    if (var.get("way") == "miss") {
        var.set("status", "varnish; " + resp.http.X-Asked);
    } elsif (req.http.X-Origin-Failed) {
        var.set("status", "varnish; fwd=stale; fwd-status=" + req.http.X-Origin-Failed + "; detail=stale-if-error");
    } elsif (var.get("way") == "hit") {
        var.set("status", "varnish; hit; ttl=" + regsub(obj.ttl, "\..*$", ""));
    }
    std.collect(resp.http.Cache-Status);
    set resp.http.Cache-Status = regsub(resp.http.Cache-Status + ", " + var.get("status"), "^, ", "");
}

# Fields that are for this cache alone (RFC 9213 section 2.2), and its own notes.
sub strip {
    unset resp.http.CDN-Cache-Control;
    unset resp.http.Surrogate-Control;
    unset resp.http.Surrogate-Key;
    unset resp.http.xkey;
    unset resp.http.X-Asked;
    unset resp.http.X-Coding;
    unset resp.http.X-Fetched;
    unset resp.http.X-Purged;
    unset resp.http.X-Stale-If-Error;
    unset resp.http.X-Stale-While;
    unset resp.http.X-Varnish;
    set resp.http.Vary = regsub(resp.http.Vary, "(, )?X-Forwarded-Proto$", "");
    if (resp.http.Vary == "") {
        unset resp.http.Vary;
    }
}

# Errors are problem details (RFC 9457), and may not be stored.
sub vcl_synth {
    unset resp.http.X-Varnish;
    set resp.http.Cache-Control = "private, no-store";
    set resp.http.Content-Security-Policy = "default-src 'none'; frame-ancestors 'none'"; # as in the origin
    if (req.method == "PURGE" || req.method == "BAN") {
        set resp.http.Content-Type = "text/plain; charset=utf-8";
        set resp.body = resp.reason + " " + var.get_int("purged") + {"
"};
        return (deliver);
    }
    if (req.url ~ "^/(api|files)/") {
        set resp.http.Access-Control-Allow-Origin = "*"; # as in the origin: scripts may read errors
        set resp.http.Access-Control-Expose-Headers = "Allow, Content-Range";
    }
    if (resp.status == 416) {
        set resp.http.Content-Range = "bytes */" + var.get("length");
    }
    if (resp.status == 405) {
        set resp.http.Allow = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";
    }
    set resp.http.Content-Type = "application/problem+json";
    set resp.body = {"{"type":"about:blank","title":""} + resp.reason + {"","status":"} + resp.status + "}";
    return (deliver);
}
