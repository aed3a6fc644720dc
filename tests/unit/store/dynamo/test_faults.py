"""No error of botocore or aiohttp leaves the store untranslated."""

from __future__ import annotations

import json
import ssl
from typing import Any

import aiohttp
import botocore.exceptions as vendor
import pytest

from streamer_store import (
    AccessDenied,
    InvalidInput,
    ItemTooLarge,
    StoreError,
    StoreUnavailable,
    TableMissing,
)
from streamer_store.dynamo.faults import translate_errors
from streamer_store.engine import ConditionFailed

URL = "https://dynamodb.eu-west-1.amazonaws.com"
PASSING = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InternalFailure",
    "InternalServerError",
    "ItemCollectionSizeLimitExceededException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Throttling",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
]
DENIED = [
    "AccessDenied",
    "AccessDeniedException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
]


def answer(
    code: str,
    message: str = "no",
    status: int = 400,
    item: Any = None,
    operation: str = "UpdateItem",
) -> vendor.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    if item is not None:
        response["Item"] = item
    return vendor.ClientError(response, operation)


def named(cause: BaseException) -> str:
    answered = cause.response if isinstance(cause, vendor.ClientError) else {}
    code = answered.get("Error", {}).get("Code", "")
    item = answered.get("Item", "")
    return f"{type(cause).__name__} {getattr(cause, 'operation_name', '')} {code} {item}".strip()


def caught(cause: BaseException) -> StoreError:
    with pytest.raises(StoreError) as found, translate_errors("GetItem", table="t", key="k"):
        raise cause
    assert found.value.__cause__ is cause
    return found.value


UNAVAILABLE: list[BaseException] = [
    *(answer(code) for code in PASSING),
    answer("", "Bad gateway", status=502),
    answer("Whatever", status=500),
    answer("Whatever", status=503),
    # What a proxy between says: no code of DynamoDB's, or none at all.
    answer("403", status=403),
    answer("302", status=302),
    answer("", status=429),
    vendor.ClientError({}, "UpdateItem"),
    vendor.EndpointConnectionError(endpoint_url=URL),
    vendor.ConnectTimeoutError(endpoint_url=URL),
    vendor.ReadTimeoutError(endpoint_url=URL),
    vendor.ConnectionClosedError(endpoint_url=URL),
    vendor.ConnectionError(error=OSError("reset")),
    vendor.SSLError(endpoint_url=URL, error=OSError("bad certificate")),
    vendor.ProxyConnectionError(proxy_url="http://proxy"),
    vendor.HTTPClientError(error="broken"),
    vendor.ResponseStreamingError(error="cut"),
    vendor.CredentialRetrievalError(provider="iam-role", error_msg="no answer"),
    aiohttp.ClientConnectionError("reset"),
    aiohttp.ClientPayloadError("cut"),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ServerTimeoutError(),
    ConnectionResetError("reset"),
    BrokenPipeError(),
    ssl.SSLError("bad record"),
    TimeoutError(),
    # Nothing that DynamoDB is known to answer.
    answer("SomethingNew"),
    answer("ConditionalCheckFailedException", item=[1]),
    answer("ConditionalCheckFailedException", item={"RequestID": {"S": 1}}),
    vendor.ParamValidationError(report="Unknown parameter"),
    vendor.DataNotFoundError(data_path="dynamodb"),
    vendor.BotoCoreError(),
    vendor.MetadataRetrievalError(error_msg="no JSON"),
    # What botocore and credential programs raise over text that is not what it must be.
    KeyError("Count"),
    AttributeError("'list' object has no attribute 'get'"),
    TypeError("'NoneType' object is not iterable"),
    json.JSONDecodeError("Expecting value", "<html>", 0),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    # The errors of other services, by which credentials are fetched, are not DynamoDB's words.
    answer("ValidationException", operation="AssumeRole"),
    answer("ResourceNotFoundException", operation="GetRoleCredentials"),
    answer("RequestEntityTooLarge", operation="AssumeRoleWithWebIdentity"),
]
REFUSED: list[BaseException] = [
    *(answer(code) for code in DENIED),
    vendor.NoCredentialsError(),
    vendor.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
    vendor.SSOTokenLoadError(error_msg="not there"),
    vendor.UnauthorizedSSOTokenError(),
    answer("AccessDenied", operation="AssumeRole"),
]
SETTINGS: list[BaseException] = [
    answer("ValidationException", "One or more parameter values were invalid"),
    vendor.NoRegionError(),
    vendor.ProfileNotFound(profile="nope"),
    vendor.ConfigNotFound(path="config"),
    vendor.ConfigParseError(path="config", error="line 1"),
    vendor.InvalidConfigError(error_msg="no source_profile"),
    vendor.InvalidDefaultsMode(mode="odd", valid_modes=["standard"]),
    vendor.InvalidRegionError(region_name="eu west"),
]
TABLES: list[BaseException] = [
    answer("ResourceNotFoundException", "Requested resource not found"),
    answer("ValidationException", "The table does not have the specified index: StatusIndex"),
]
TOO_LARGE: list[BaseException] = [
    answer("ValidationException", "Item size has exceeded the maximum allowed size"),
    answer("ValidationException", "Item size to update has exceeded the maximum allowed size"),
    answer("RequestEntityTooLarge", "Request body is too large"),
    answer("413", "", status=413),
]
FAMILIES: dict[type[StoreError], list[BaseException]] = {
    StoreUnavailable: UNAVAILABLE,
    AccessDenied: REFUSED,
    InvalidInput: SETTINGS,
    TableMissing: TABLES,
    ItemTooLarge: TOO_LARGE,
}
CASES = [
    pytest.param(cause, kind, id=f"{kind.__name__}: {named(cause)}")
    for kind, causes in FAMILIES.items()
    for cause in causes
]


@pytest.mark.parametrize(("cause", "kind"), CASES)
def test_each_fault_becomes_exactly_one_of_our_errors(
    cause: BaseException, kind: type[StoreError]
) -> None:
    """The kind is exact, and the vendor's error is the cause."""
    assert type(caught(cause)) is kind


@pytest.mark.parametrize(("cause", "kind"), CASES)
def test_each_error_says_which_call_failed(cause: BaseException, kind: type[StoreError]) -> None:
    """Operation, table and key are those of the call."""
    error = caught(cause)
    assert isinstance(error, kind)
    assert (error.operation, error.table, error.key) == ("GetItem", "t", "k")


@pytest.mark.parametrize("item", [None, {"RequestID": {"S": "r1"}}])
def test_a_failed_condition_brings_the_old_item(item: Any) -> None:
    """None where there was no item: the stores decide on what stood there."""
    cause = answer("ConditionalCheckFailedException", item=item)
    with pytest.raises(ConditionFailed) as found, translate_errors("UpdateItem"):
        raise cause
    assert found.value.old == item
    assert found.value.__cause__ is cause


@pytest.mark.parametrize("cause", [TimeoutError(), aiohttp.ServerDisconnectedError()])
def test_an_error_without_words_is_told_by_its_kind(cause: BaseException) -> None:
    """An outage is never explained by nothing."""
    told = caught(cause).message.removeprefix("DynamoDB did not answer: ")
    assert told in {"TimeoutError", "Server disconnected"}


def test_the_code_and_the_words_of_dynamodb_are_told() -> None:
    """An operator finds the error in DynamoDB's own documentation."""
    error = caught(answer("ThrottlingException", "Rate exceeded"))
    assert error.message == "ThrottlingException: Rate exceeded"


def test_a_server_error_without_a_code_is_told_by_its_status() -> None:
    """A proxy's answer has no code of DynamoDB's."""
    assert caught(answer("", "Bad gateway", status=502)).message == "502: Bad gateway"


def test_a_missing_region_tells_what_to_do() -> None:
    """The message names the settings that give one."""
    assert "AWS_REGION" in caught(vendor.NoRegionError()).message


def test_what_succeeds_is_left_alone() -> None:
    """Without an error nothing is raised."""
    with translate_errors("GetItem"):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_an_interruption_passes_through(error: BaseException) -> None:
    """An exception that ends a task or the process is not translated."""
    with pytest.raises(type(error)) as found, translate_errors("GetItem"):
        raise error
    assert found.value is error


def test_an_error_of_ours_is_not_translated_again() -> None:
    """What is a StoreError already keeps its kind and its place."""
    error = TableMissing("gone", operation="Query")
    with pytest.raises(TableMissing) as found, translate_errors("GetItem", table="t"):
        raise error
    assert found.value is error
    assert found.value.operation == "Query"
