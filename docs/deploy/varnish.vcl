# Varnish 7 in front of the gallery: holds what the origin's Surrogate-Control lets it hold, until it is purged.
# README.md beside this file says how it is started, what it promises and why. Lines that end in "# yours" are yours.
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

# Who may purge: where the origin's processes run. With VARNISH_PURGE_TOKEN in the environment they must know it too.
acl purgers {
    "127.0.0.1"; # yours
    "::1"; # yours
}

# Who ends TLS, and is believed when it says X-Forwarded-Proto.
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
    call choose_pass;
    call normalise_query;
    call normalise_coding;
    unset req.http.Cookie;
    return (hash);
}

# Of a field that comes twice only the first would be read here. The others would let a client choose what others are
# shown, or speak in the name of a proxy or of this file. So would one with an underscore, which to WSGI is the one with
# a hyphen.
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

# A GET may ask for one range of bytes. What else is in Range may be ignored (RFC 9110 section 14.2), where Varnish
# would answer 416, or 503 if it passes the request, and send a part to HEAD.
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

# Which hosts are ours is the origin's ALLOWED_HOSTS; here each gets one spelling (RFC 9110 section 4.2.3).
sub check_host {
    set req.http.Host = regsub(std.tolower(req.http.Host), "\.?(?::(?:80|443))?$", "");
    if (req.http.Host !~ "^(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]+)?$") {
        return (synth(400));
    }
}

# What is never looked up and never held: RFC 9111 sections 2 and 3.5, and paths that have a second reading.
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

# As the origin reads queries (keybits/query.py): order means nothing, nor do these parameters.
sub normalise_query {
    set req.url = regsuball(req.url, "&((utm_[^=&]*|gclid|fbclid|_)(=[^&]*)?)?(?=&|$)", "");
    set req.url = regsub(req.url, "^([^?]*\?)((utm_[^=&]*|gclid|fbclid|_)(=[^&]*)?)?(&|$)", "\1");
    set req.url = std.querysort(regsub(req.url, "^([^?]*)\?$", "\1"));
}

# Each coding is a representation with an ETag of its own, made by the origin. So that Vary does not split what is
# the same, a request names at most one: the first of br, zstd and gzip that it accepts as gladly as any. Where
# weights decide between them, identity is refused or one is named twice, the origin is asked (RFC 9110 section 12.5.3).
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

# "last purge" tells fetches under way that what they bring may be from before: they cannot be purged themselves.
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
    set req.hash_ignore_busy = true; # a purge waits for nobody
    return (hash);
}

# A second address in X-Forwarded-For says that somebody else asks, through a proxy that the ACL would let in.
sub check_purger {
    if (client.ip !~ purgers || req.http.X-Forwarded-For ~ ",") {
        return (synth(403));
    }
    if (std.getenv("VARNISH_PURGE_TOKEN") && req.http.X-Purge-Token != std.getenv("VARNISH_PURGE_TOKEN")) {
        return (synth(403));
    }
}

# About the object alone, so that the ban lurker can work it off. A ban is read as words: it can hold no space.
sub ban_keys {
    if (req.http.xkey-ban !~ "^[A-Za-z0-9_-]+(\|[A-Za-z0-9_-]+)*$") {
        return (synth(400));
    }
    if (!std.ban("obj.http.xkey ~ (^|\s)(" + req.http.xkey-ban + ")(\s|$)")) {
        return (synth(500, std.ban_error()));
    }
    return (synth(200, "Banned"));
}

# By URL: of every variant.
sub purge_url {
    if (req.http.X-Soft == "1") {
        var.set_int("purged", purge.soft(0s));
    } else {
        var.set_int("purged", purge.hard());
    }
    return (synth(200, "Purged"));
}

# --- What was found -----------------------------------------------------------------------------------------

# An object may be past its lifetime here: it is kept for stale-while-revalidate, and for when the origin fails.
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
        return (abandon); # it has just been asked
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
            set beresp.http.X-Coding = beresp.http.Content-Encoding; # Varnish takes it from what has no content
        }
        return (deliver);
    }
    call describe_fetch;
    if (beresp.status >= 500 && bereq.http.If-None-Match) {
        return (error(beresp.status, beresp.reason)); # there may be something to show instead
    }
    call set_lifetime;
    if (beresp.ttl <= 0s) {
        call hold_nothing;
    }
    # A purge came while the origin was at work. What it made may be from before, and some wait for it who asked
    # after: it is asked again, and in a storm of purges each of them asks for itself.
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

# Lifetimes are those of Surrogate-Control, which is for caches that are purged; else of Cache-Control, where it
# says so explicitly. Nothing is held by guess (RFC 9111 section 4.2.2).
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

# Whoever asks in the next seconds does so for himself, and waits for nobody, until there is something to hold. Kept
# as expired, the note never hides what is held: the newest counts.
sub hold_nothing {
    set beresp.uncacheable = true;
    set beresp.ttl = 1ms;
    set beresp.grace = 0s;
    set beresp.keep = 10s;
    return (deliver);
}

# What a 304 does not say is there from the last time, with what was added here.
sub hold {
    set beresp.grace = std.duration(beresp.http.X-Stale-If-Error, 0s);
    if (std.duration(beresp.http.X-Stale-While, 0s) > beresp.grace) {
        set beresp.grace = std.duration(beresp.http.X-Stale-While, 0s);
    }
    set beresp.keep = 1d; # to ask whether it still holds
    set beresp.http.X-Asked = beresp.http.X-Asked + "; stored";
    set beresp.http.X-Purged = var.get("last purge");
    set beresp.http.X-Fetched = "fetched-" + bereq.xid;
    set beresp.http.xkey = regsuball(beresp.http.xkey, " ?fetched-[0-9]+", "");
    set beresp.http.xkey = regsub(beresp.http.xkey + " " + beresp.http.X-Fetched, "^ ", "");
    set beresp.http.Vary = regsuball(beresp.http.Vary, "(, )?X-Forwarded-Proto", "");
    set beresp.http.Vary = regsub(beresp.http.Vary + ", X-Forwarded-Proto", "^, ", "");
    return (deliver);
}

# For the one who asked, and those who waited: vcl_deliver looks for something that may be shown instead. Who came
# after the failure asks again, since the origin may be back.
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

# Between vcl_backend_response, where it was compared, and here the object became visible to purges: one that came
# before that missed it.
sub purge_what_slipped_through {
    if (var.get("way") == "miss" && resp.http.X-Fetched
        && resp.http.X-Purged != "last purge: " + var.global_get("last purge")) {
        var.set_int("purged", xkey.softpurge(resp.http.X-Fetched));
    }
}

# Varnish compares a list as if it were one tag (RFC 9110 section 13.1.2).
sub find_tag {
    if (resp.http.ETag && (req.http.If-None-Match ~ "^[ \t]*\*[ \t]*$"
        || std.strstr(req.http.If-None-Match, regsub(resp.http.ETag, "^W/", "")))) {
        set req.http.If-None-Match = resp.http.ETag;
    }
}

# An answer sent in the second that its Last-Modified names may share it with one before (RFC 9110 section 8.8.2.2).
sub distrust_date {
    if (std.time(resp.http.Date, now) - std.time(resp.http.Last-Modified, now) < 1s) {
        unset req.http.If-Modified-Since;
    }
}

# A part is of what the client has where the strong tag is the same, not the date (RFC 9110 section 13.1.5). Varnish's
# own 416 would have the lifetime of the content; where another condition may make it a 304, the range is ignored.
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

# For as long as it is purged, what is held by Surrogate-Control is as good as if made now. Browsers that may hold it
# for a time (max-age above 0) count that time from now, not from when it came here.
sub date {
    if (resp.http.Surrogate-Control && obj.ttl > 0s && resp.http.Cache-Control ~ "(?i)(max-age|s-maxage)=0*[1-9]") {
        set resp.http.Age = "0";
        set resp.http.Date = now;
        unset resp.http.Expires;
    }
}

# RFC 9211: what the origin said of its own cache, then what was done here.
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

# What was said to this cache alone (RFC 9213 section 2.2), and what it noted for itself.
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

# Errors are problem details (RFC 9457), and nobody's to keep.
sub vcl_synth {
    unset resp.http.X-Varnish;
    set resp.http.Cache-Control = "private, no-store";
    if (req.method == "PURGE" || req.method == "BAN") {
        set resp.http.Content-Type = "text/plain; charset=utf-8";
        set resp.body = resp.reason + " " + var.get_int("purged") + {"
"};
        return (deliver);
    }
    if (req.url ~ "^/(api|files)/") {
        set resp.http.Access-Control-Allow-Origin = "*"; # as the origin has it: scripts may read what was wrong
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
