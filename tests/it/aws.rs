//! AWS' web identity tokens, with keys from each place, and with the faults of the services.

use serde_json::json;
use tokenflight::source::{AwsWebIdentity, AwsWebIdentityBuilder, Metadata, SourceSettings};
use tokenflight::testing::{ManualClock, Reply, fakes};
use tokenflight::{FetchContext, Reason, TokenActor, TokenSource};

use crate::file_token::Folder;
use crate::http_sources::assert_field;
use crate::support::*;

const ARN: &str = "arn:aws:iam::123456789012:role/app";

fn cx(reason: Reason) -> FetchContext {
    FetchContext::new(reason)
}

/// On an instance.
fn instance(aws: &fakes::Aws) -> AwsWebIdentityBuilder {
    Metadata::aws_web_identity("https://api.example.com").imds_url(aws.base_url()).sts_url(aws.base_url())
}

async fn fetch(source: &AwsWebIdentity) -> Result<String, tokenflight::SourceError> {
    source.fetch(cx(Reason::Expired)).await.map(|token| token.secret().to_owned())
}

/// The requests by what they ask for.
fn asked(aws: &fakes::Aws) -> Vec<String> {
    let line = |asked: tokenflight::testing::Asked| {
        let line: Vec<_> = asked.head.split_ascii_whitespace().take(2).map(str::to_owned).collect();
        let action = asked.body.split('&').find_map(|pair| pair.strip_prefix("Action=")).map(str::to_owned);
        action.unwrap_or_else(|| line.join(" "))
    };
    aws.asked().into_iter().map(line).collect()
}

#[actix::test]
async fn an_instance_s_keys_sign_for_a_token_and_are_kept() {
    let aws = fakes::Aws::start().await.unwrap();
    let source = instance(&aws).audience("other").lifetime(secs(900)).build().unwrap();
    let token = source.fetch(cx(Reason::First)).await.unwrap();
    assert_eq!(token.secret(), "aws-1");
    assert!(token.remaining().is_some_and(|left| left > secs(890) && left <= secs(900)));
    assert_eq!(fetch(&source).await.unwrap(), "aws-2");
    assert_eq!(
        asked(&aws),
        [
            "PUT /latest/api/token",
            "GET /latest/meta-data/placement/region",
            "PUT /latest/api/token",
            "GET /latest/meta-data/iam/security-credentials/",
            "GET /latest/meta-data/iam/security-credentials/app-role",
            "GetWebIdentityToken",
            "GetWebIdentityToken",
        ]
    );
    let body = &aws.asked()[5].body;
    for part in [
        "Version=2011-06-15",
        "Audience.member.1=https%3A%2F%2Fapi.example.com",
        "Audience.member.2=other",
        "DurationSeconds=900",
        "SigningAlgorithm=RS256",
    ] {
        assert!(body.contains(part), "{body}");
    }
    let shown = format!("{source:?}");
    assert!(!shown.contains("aws-secret-key") && !shown.contains("session-"), "{shown}");
}

#[actix::test]
async fn keys_may_last_as_long_as_a_duration_goes() {
    let aws = fakes::Aws::start().await.unwrap();
    aws.keys_last(std::time::Duration::MAX);
    let source = instance(&aws).build().unwrap();
    assert_eq!(fetch(&source).await.unwrap(), "aws-1");
    assert_eq!(fetch(&source).await.unwrap(), "aws-2");
    let signed = asked(&aws).iter().filter(|asked| *asked == "GetWebIdentityToken").count();
    assert_eq!((signed, aws.asked().len()), (2, 7), "one set of keys");
}

#[actix::test]
async fn a_container_s_agent_is_asked_with_its_token_file_which_may_change() {
    let (aws, folder) = (fakes::Aws::start().await.unwrap(), Folder::new());
    let file = folder.write("agent", "old-token\n");
    let source = Metadata::aws_web_identity("api")
        .container_url(aws.container_url())
        .container_token_file(&file)
        .region("eu-test-1")
        .sts_url(aws.base_url())
        .build()
        .unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("401") && !error.to_string().contains("old-token"), "{error}");
    folder.write("agent", "agent-token\n");
    assert_eq!(fetch(&source).await.unwrap(), "aws-1");
    assert_eq!(asked(&aws), ["GET /v1/credentials", "GET /v1/credentials", "GetWebIdentityToken"]);

    aws.end_keys(); // so that the next fetch needs the file again
    for (text, wanted) in [("", "empty"), ("a\nb: c", "control character")] {
        folder.write("agent", text);
        assert!(fetch(&source).await.is_err());
        let error = fetch(&source).await.unwrap_err();
        assert!(!error.is_terminal() && error.to_string().contains(wanted), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("agent"), "{error}");
}

#[actix::test]
async fn a_pod_s_token_stands_for_a_role_whose_keys_sign() {
    let (aws, folder) = (fakes::Aws::start().await.unwrap(), Folder::new());
    let file = folder.write("pod", "pod-token\n");
    let build = |arn: &str| {
        Metadata::aws_web_identity("api")
            .role(arn, &file)
            .region("eu-test-1")
            .sts_url(aws.base_url())
            .build()
            .unwrap()
    };
    let source = build(ARN);
    assert_eq!(fetch(&source).await.unwrap(), "aws-1");
    assert_eq!(fetch(&source).await.unwrap(), "aws-2");
    assert_eq!(asked(&aws), ["AssumeRoleWithWebIdentity", "GetWebIdentityToken", "GetWebIdentityToken"]);
    assert!(aws.asked()[0].header("authorization").is_none(), "that request is not signed");

    let error = fetch(&build("arn:aws:iam::123456789012:role/other")).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("AccessDenied"), "{error}");
    // The service quotes the token back.
    folder.write("pod", "s3cret-pod");
    let error = fetch(&build(ARN)).await.unwrap_err();
    assert!(error.to_string().contains("InvalidIdentityToken"), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

/// The service may have failed to fetch the issuer's keys, and kubelet may be late with a new token.
#[actix::test]
async fn a_pod_s_token_that_is_refused_at_the_moment_is_read_again_in_the_same_flight() {
    for code in
        ["InvalidIdentityToken", "InvalidIdentityTokenException", "ExpiredToken", "ExpiredTokenException"]
    {
        let (aws, folder) = (fakes::Aws::start().await.unwrap(), Folder::new());
        let source = Metadata::aws_web_identity("api")
            .role(ARN, folder.write("pod", "pod-token\n"))
            .region("eu-test-1")
            .sts_url(aws.base_url())
            .build()
            .unwrap();
        let body = format!(
            "<ErrorResponse><Error><Code>{code}</Code><Message>late</Message></Error></ErrorResponse>"
        );
        aws.then(Reply::text(400, "text/xml", body));
        let policy = plain().attempts(2).backoff(millis(0));
        let handle = TokenActor::builder(source).policy(policy).start().unwrap();
        assert_eq!(handle.get().await.expect(code).secret(), "aws-1");
        let assume = "AssumeRoleWithWebIdentity";
        assert_eq!(asked(&aws), [assume, assume, "GetWebIdentityToken"], "{code}");
    }
}

#[actix::test]
async fn keys_that_have_ended_are_replaced_in_the_same_flight() {
    let aws = fakes::Aws::start().await.unwrap();
    let source = instance(&aws).build().unwrap();
    let policy = plain().attempts(2).backoff(millis(0));
    let handle = TokenActor::builder(source).policy(policy).start().unwrap();
    assert_eq!(handle.get().await.unwrap().secret(), "aws-1");
    aws.end_keys();
    assert_eq!(handle.refresh().await.unwrap().secret(), "aws-2");
    assert_eq!(asked(&aws).iter().filter(|line| line.ends_with("/app-role")).count(), 2);
}

/// How long the last token was asked for, in seconds.
fn duration_asked(aws: &fakes::Aws) -> u64 {
    let form = aws.asked().last().unwrap().body.clone();
    form.split('&').find_map(|pair| pair.strip_prefix("DurationSeconds=")).unwrap().parse().unwrap()
}

#[actix::test]
async fn no_token_is_asked_for_that_would_outlive_the_keys_which_sign_for_it() {
    for (keys_last, lifetime, asked) in [
        (secs(3_600), secs(3_600), 3_560..=3_570),
        (secs(3_600), secs(900), 900..=900),
        // The instance has no others yet.
        (secs(600), secs(900), 560..=570),
        (secs(80), secs(900), 60..=60),
    ] {
        let aws = fakes::Aws::start().await.unwrap();
        aws.keys_last(keys_last);
        let source = instance(&aws).lifetime(lifetime).build().unwrap();
        for number in 1..=2 {
            assert_eq!(fetch(&source).await.unwrap(), format!("aws-{number}"), "{keys_last:?}");
            assert!(asked.contains(&duration_asked(&aws)), "{keys_last:?}: {}", duration_asked(&aws));
        }
    }
}

#[actix::test]
async fn keys_that_end_before_a_token_would_are_replaced_and_used_where_there_are_no_others() {
    let aws = fakes::Aws::start().await.unwrap();
    let source = instance(&aws).region("eu-test-1").lifetime(secs(900)).build().unwrap();
    aws.keys_last(secs(700));
    assert_eq!(fetch(&source).await.unwrap(), "aws-1");
    // The place that has the keys is down. Those in hand are still good for a shorter token.
    aws.then(Reply::text(503, "text/html", ""));
    assert_eq!(fetch(&source).await.unwrap(), "aws-2");
    assert!((650..=670).contains(&duration_asked(&aws)), "{}", duration_asked(&aws));
    // The same in the last minutes of the keys.
    for (keys_last, is_enough) in [(secs(200), true), (secs(85), false)] {
        aws.keys_last(keys_last).end_keys();
        let source = instance(&aws).region("eu-test-1").lifetime(secs(900)).build().unwrap();
        fetch(&source).await.unwrap();
        aws.then(Reply::text(503, "text/html", ""));
        assert_eq!(fetch(&source).await.is_ok(), is_enough, "{keys_last:?}");
    }
    aws.keys_last(secs(3_600));
    assert_eq!(fetch(&source).await.unwrap(), "aws-6");
    assert_eq!(duration_asked(&aws), 900);
    let before = aws.asked().len();
    assert_eq!(fetch(&source).await.unwrap(), "aws-7");
    assert_eq!(aws.asked().len(), before + 1, "these keys are kept");
}

#[actix::test]
async fn keys_for_which_the_token_is_too_long_are_replaced_in_the_same_flight() {
    let aws = fakes::Aws::start().await.unwrap();
    let policy = plain().attempts(2).backoff(millis(0));
    let handle = TokenActor::builder(instance(&aws).build().unwrap()).policy(policy).start().unwrap();
    aws.refuse(403, "SessionDurationEscalation");
    assert_eq!(handle.get().await.unwrap().secret(), "aws-1");
    assert_eq!(asked(&aws).iter().filter(|line| line.ends_with("/app-role")).count(), 2);
}

#[actix::test]
async fn a_clock_that_is_off_costs_one_more_request_and_then_the_service_s_clock_signs() {
    let aws = fakes::Aws::start().await.unwrap();
    let source = instance(&aws).region("eu-test-1").build().unwrap();
    let off = std::sync::Arc::new(ManualClock::new()); // months away from the machine's
    let fetch = async |reason| source.fetch(cx(reason).with_clock(off.clone())).await;
    let refused = fetch(Reason::First).await.unwrap_err();
    assert!(!refused.is_terminal() && refused.to_string().contains("SignatureDoesNotMatch"), "{refused}");
    assert_eq!(fetch(Reason::Expired).await.unwrap().secret(), "aws-1");

    // After a rejection the role may be another one.
    let keys = || asked(&aws).iter().filter(|line| line.ends_with("/app-role")).count();
    let before = keys();
    fetch(Reason::Rejected).await.unwrap();
    assert_eq!(keys(), before + 1);
}

#[actix::test]
async fn each_refusal_is_judged_by_its_code_and_named() {
    let aws = fakes::Aws::start().await.unwrap();
    let source = instance(&aws).build().unwrap();
    for (status, code, is_terminal) in [
        (403, "AccessDenied", true),
        (400, "OutboundWebIdentityFederationDisabled", true),
        (403, "SessionDurationEscalation", false),
        (403, "SessionDurationEscalationException", false),
        (400, "Throttling", false),
        (400, "IDPCommunicationError", false),
        (503, "ServiceUnavailable", false),
        (429, "TooManyRequests", false),
        (403, "ExpiredToken", false),
        (403, "InvalidClientTokenId", true),
    ] {
        aws.refuse(status, code);
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.is_terminal(), is_terminal, "{code}");
        assert!(error.to_string().contains(code), "{error}");
    }
    assert!(fetch(&source).await.is_ok());
}

#[actix::test]
async fn the_metadata_service_s_faults_are_waited_out_and_named() {
    for (replies, wanted, is_terminal) in [
        (vec![Reply::text(503, "text/html", "")], "503", false),
        (vec![Reply::text(403, "text/html", "")], "403", true),
        (vec![Reply::text(200, "text/plain", "s"), Reply::text(404, "text/html", "")], "404", false),
        (
            vec![Reply::text(200, "text/plain", "s"), Reply::text(200, "text/plain", "")],
            "name of a role",
            false,
        ),
        (
            vec![Reply::text(200, "text/plain", "s"), Reply::text(200, "text/plain", "../../x")],
            "name of a role",
            false,
        ),
        (
            vec![
                Reply::text(200, "text/plain", "s"),
                Reply::text(200, "text/plain", "r"),
                Reply::json(200, r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"x"}"#),
            ],
            "AssumeRoleUnauthorizedAccess",
            false,
        ),
        (
            vec![
                Reply::text(200, "text/plain", "s"),
                Reply::text(200, "text/plain", "r"),
                Reply::json(200, r#"{"Code":"Success","SecretAccessKey":"s3cret"}"#),
            ],
            "without `AccessKeyId`",
            false,
        ),
        (
            vec![
                Reply::text(200, "text/plain", "s"),
                Reply::text(200, "text/plain", "r"),
                Reply::json(
                    200,
                    r#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"s3cret","Token":"t"}"#,
                ),
                Reply::text(200, "text/xml", "<X>s3cret</X>"),
            ],
            "WebIdentityToken",
            false,
        ),
        (
            vec![
                Reply::text(200, "text/plain", "s"),
                Reply::text(200, "text/plain", "r"),
                Reply::json(
                    200,
                    r#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"s3cret","Token":"t"}"#,
                ),
                Reply::text(400, "text/xml", "s3cret").with_header("Content-Encoding", "gzip"),
            ],
            "Content-Encoding \"gzip\"",
            true,
        ),
    ] {
        let aws = fakes::Aws::start().await.unwrap();
        let source = instance(&aws).region("eu-test-1").build().unwrap();
        for reply in replies {
            aws.then(reply);
        }
        let error = fetch(&source).await.unwrap_err();
        assert!(error.to_string().contains(wanted) && !error.to_string().contains("s3cret"), "{error}");
        assert_eq!(error.is_terminal(), is_terminal, "{error}");
    }
}

#[actix::test]
async fn a_region_that_would_be_another_host_is_not_asked() {
    let aws = fakes::Aws::start().await.unwrap();
    let source = Metadata::aws_web_identity("api").imds_url(aws.base_url()).build().unwrap();
    aws.then(Reply::text(200, "text/plain", "s")).then(Reply::text(200, "text/plain", "evil.example/"));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("no region"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let folder = Folder::new();
    let file = folder.write("pod", "pod-token");
    let aws = || Metadata::aws_web_identity("api");
    let here = "http://127.0.0.1:1";
    assert_field(aws().imds_url("http://metadata.example.com").build(), "imds_url");
    assert_field(aws().imds_url("https://169.254.169.254").build(), "imds_url");
    assert_field(aws().imds_url(here).sts_url("http://sts.example.com").build(), "sts_url");
    assert_field(aws().imds_url(here).region("eu-central-1/x").build(), "region");
    assert_field(aws().imds_url(here).region("").build(), "region");
    assert_field(aws().imds_url(here).lifetime(secs(59)).build(), "lifetime");
    assert_field(aws().imds_url(here).lifetime(secs(3_601)).build(), "lifetime");
    assert_field(aws().imds_url(here).algorithm("HS256").build(), "algorithm");
    assert_field(aws().imds_url(here).timeout(secs(0)).build(), "timeout");
    assert_field(aws().imds_url(here).container_url(here).build(), "imds_url");
    assert_field(aws().role(ARN, &file).container_url(here).build(), "container_url");
    assert_field(aws().role("role/app", &file).region("eu-test-1").build(), "role_arn");
    assert_field(aws().role(ARN, "/no/such/file").region("eu-test-1").build(), "web_identity_token_file");
    assert_field(
        aws().role(ARN, &file).role_session_name("a b").region("eu-test-1").build(),
        "role_session_name",
    );
    assert_field(aws().container_token_file(&file).build(), "container_token_file");
    let role = aws().role(ARN, &file).region("eu-test-1");
    assert_field(role.container_token_file(&file).build(), "container_token_file");
    assert_field(aws().imds_url(here).role_session_name("app").build(), "role_session_name");
    assert_field(Metadata::aws_web_identity("").imds_url(here).build(), "audience");
    assert_field(Metadata::aws_web_identity("a".repeat(1_001)).imds_url(here).build(), "audience");
    let eleven = (0..10).fold(aws(), |aws, number| aws.audience(format!("api-{number}")));
    assert_field(eleven.imds_url(here).build(), "audience");

    // Keys go in clear to nobody but these.
    for (url, is_good) in [
        ("http://169.254.170.2/v2/credentials", true),
        ("http://169.254.170.23/v1/credentials", true),
        ("http://[fd00:ec2::23]/v1/credentials", true),
        ("http://localhost:1/", true),
        ("https://keys.example.com/", true),
        ("http://169.254.170.3/", false),
        ("http://169.254.170.2.example.com/", false),
        ("http://10.0.0.1/", false),
        ("http://[fd00:ec2::24]/", false),
    ] {
        let built = aws().container_url(url).region("eu-test-1").build();
        assert_eq!(
            built.as_ref().map(drop).err().map(|error| error.field().to_owned()),
            (!is_good).then(|| "container_url".to_owned()),
            "{url}"
        );
    }
}

#[actix::test]
async fn a_settings_file_names_the_identity() {
    let (aws, folder) = (fakes::Aws::start().await.unwrap(), Folder::new());
    let settings = json!({
        "kind": "aws_web_identity", "audience": ["api", "other"], "lifetime": "15m", "algorithm": "ES384",
        "role_arn": ARN, "web_identity_token_file": folder.write("pod", "pod-token"), "region": "eu-test-1",
        "sts_url": aws.base_url(),
    });
    let read = |settings: &serde_json::Value| serde_json::from_value::<SourceSettings>(settings.clone());
    let source = read(&settings).unwrap().build().unwrap();
    assert_eq!(source.fetch(cx(Reason::First)).await.unwrap().secret(), "aws-1");
    let mut parts = Vec::new();
    source.identify(&mut |name, value| parts.push(format!("{name}={value}")));
    assert!(
        parts.contains(&format!("role_arn={ARN}")) && parts.contains(&"audience=other".to_owned()),
        "{parts:?}"
    );
    assert!(!parts.iter().any(|part| part.starts_with("unnamed")), "{parts:?}");

    let mut wrong = settings.clone();
    wrong["audiense"] = json!("api");
    assert!(read(&wrong).unwrap_err().to_string().contains("unknown field `audiense`"));
    let mut wrong = settings.clone();
    wrong.as_object_mut().unwrap().remove("audience");
    assert!(read(&wrong).unwrap_err().to_string().contains("missing field `audience`"));
    let mut wrong = settings;
    wrong.as_object_mut().unwrap().remove("web_identity_token_file");
    let error = read(&wrong).unwrap().build().map(drop).unwrap_err();
    assert_eq!(error.field(), "role_arn");
}
