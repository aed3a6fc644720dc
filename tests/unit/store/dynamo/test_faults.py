"""Every exception of botocore and aiohttp becomes an error of the store."""

from __future__ import annotations

import json
import ssl
from typing import Any

import aiohttp
import botocore.exceptions as vendor
import pytest

from streamer_store import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    ItemTooLarge,
    NotFound,
    StoreError,
    StoreUnavailable,
    TableMissing,
)
from streamer_store.dynamo.faults import translate_errors
from streamer_store.engine import ConditionFailed

URL = "https://dynamodb.eu-west-1.amazonaws.com"
TEMPORARY = [
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
    response = cause.response if isinstance(cause, vendor.ClientError) else {}
    code = response.get("Error", {}).get("Code", "")
    item = response.get("Item", "")
    return f"{type(cause).__name__} {getattr(cause, 'operation_name', '')} {code} {item}".strip()


def caught(cause: BaseException) -> StoreError:
    with pytest.raises(StoreError) as raised, translate_errors("GetItem", table="t", key="k"):
        raise cause
    assert raised.value.__cause__ is cause
    return raised.value


UNAVAILABLE: list[BaseException] = [
    *(answer(code) for code in TEMPORARY),
    answer("", "Bad gateway", status=502),
    answer("Whatever", status=500),
    answer("Whatever", status=503),
    # Answers of a proxy: they have no code of DynamoDB.
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
    # Errors that DynamoDB is not known to return.
    answer("SomethingNew"),
    answer("UnknownOperationException"),
    answer("BackupInUseException", operation="DeleteBackup"),
    answer("ContinuousBackupsUnavailableException", operation="CreateBackup"),
    answer("ConditionalCheckFailedException", item=[1]),
    answer("ConditionalCheckFailedException", item={"RequestID": {"S": 1}}),
    vendor.ParamValidationError(report="Unknown parameter"),
    vendor.DataNotFoundError(data_path="dynamodb"),
    vendor.BotoCoreError(),
    vendor.MetadataRetrievalError(error_msg="no JSON"),
    # Raised by botocore for an answer, or an output of a credential program, that is malformed.
    KeyError("Count"),
    AttributeError("'list' object has no attribute 'get'"),
    TypeError("'NoneType' object is not iterable"),
    json.JSONDecodeError("Expecting value", "<html>", 0),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    # Errors of the services that provide credentials. Their codes are not those of DynamoDB.
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
    answer("UnknownOperationException", operation="ListBackups"),
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
    answer("TableNotFoundException", operation="CreateBackup"),
]
# The code of another operation's error: something other than DynamoDB answered.
UNAVAILABLE.append(answer("TransactionCanceledException", "no transaction was sent"))
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
    NotFound: [answer("BackupNotFoundException", operation="DeleteBackup")],
    AlreadyExists: [answer("TableAlreadyExistsException", operation="RestoreTableFromBackup")],
}
CASES = [
    pytest.param(cause, kind, id=f"{kind.__name__}: {named(cause)}")
    for kind, causes in FAMILIES.items()
    for cause in causes
]


@pytest.mark.parametrize(("cause", "kind"), CASES)
def test_every_exception_has_its_store_error(cause: BaseException, kind: type[StoreError]) -> None:
    """The type is exact, and the original exception is the cause."""
    assert type(caught(cause)) is kind


@pytest.mark.parametrize(("cause", "kind"), CASES)
def test_every_error_names_its_call(cause: BaseException, kind: type[StoreError]) -> None:
    """It has the operation, table and key of the call."""
    error = caught(cause)
    assert isinstance(error, kind)
    assert (error.operation, error.table, error.key) == ("GetItem", "t", "k")


@pytest.mark.parametrize("item", [None, {"RequestID": {"S": "r1"}}])
def test_a_failed_condition_has_the_old_item(item: Any) -> None:
    """`old` is None where there is no item."""
    cause = answer("ConditionalCheckFailedException", item=item)
    with pytest.raises(ConditionFailed) as raised, translate_errors("UpdateItem"):
        raise cause
    assert raised.value.old == item
    assert raised.value.__cause__ is cause


@pytest.mark.parametrize("cause", [TimeoutError(), aiohttp.ServerDisconnectedError()])
def test_an_exception_without_a_message_is_described_by_its_type(cause: BaseException) -> None:
    """The message of an outage is never empty."""
    description = caught(cause).message.removeprefix("DynamoDB did not answer: ")
    assert description in {"TimeoutError", "Server disconnected"}


def test_an_error_has_the_code_and_message_of_dynamodb() -> None:
    """An operator can look the code up in the documentation of DynamoDB."""
    error = caught(answer("ThrottlingException", "Rate exceeded"))
    assert error.message == "ThrottlingException: Rate exceeded"


def test_a_server_error_without_a_code_is_described_by_its_status() -> None:
    """The answer of a proxy has no error code."""
    assert caught(answer("", "Bad gateway", status=502)).message == "502: Bad gateway"


def test_the_error_for_a_missing_region_names_the_settings() -> None:
    """One of them is AWS_REGION."""
    assert "AWS_REGION" in caught(vendor.NoRegionError()).message


def test_a_successful_call_raises_nothing() -> None:
    """Without an exception, the context manager has no effect."""
    with translate_errors("GetItem"):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_an_interruption_is_not_translated(error: BaseException) -> None:
    """KeyboardInterrupt and the like end the task or process."""
    with pytest.raises(type(error)) as raised, translate_errors("GetItem"):
        raise error
    assert raised.value is error


def test_a_store_error_is_not_translated_again() -> None:
    """It keeps its type and its operation."""
    error = TableMissing("gone", operation="Query")
    with pytest.raises(TableMissing) as raised, translate_errors("GetItem", table="t"):
        raise error
    assert raised.value is error
    assert raised.value.operation == "Query"
