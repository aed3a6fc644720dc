"""Translate the exceptions of botocore and aiohttp to the store's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import (
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    InvalidDefaultsMode,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from streamer_store.dynamo.answers import BODY_TOO_LARGE, is_item, is_reason_list
from streamer_store.engine import ConditionFailed
from streamer_store.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    ItemTooLarge,
    NotFound,
    StoreError,
    StoreUnavailable,
    TableMissing,
)
from streamer_store.target import without_password

# DynamoDB API Reference, "Common Errors" and the errors of each operation. Expired credentials
# count as an outage: it ends when they are renewed.
_TEMPORARY = frozenset(
    {
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
    }
)
_DENIED = frozenset(
    {
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
    }
)
_CONFIGURATION = (
    ConfigNotFound,
    ConfigParseError,
    InvalidConfigError,
    InvalidDefaultsMode,
    InvalidRegionError,
    ProfileNotFound,
)
_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, SSOError)
_NETWORK = (
    BotoConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)
# Backups and restores have names of their own for a missing table.
_NO_TABLE = frozenset({"ResourceNotFoundException", "TableNotFoundException"})
# Operations that emulators such as DynamoDB Local lack.
_BACKUP_OPERATIONS = frozenset(
    {
        "CreateBackup",
        "DeleteBackup",
        "DescribeBackup",
        "DescribeContinuousBackups",
        "ListBackups",
        "RestoreTableFromBackup",
        "UpdateContinuousBackups",
    }
)
_ABOUT_BACKUPS: dict[str, type[StoreError]] = {
    "BackupNotFoundException": NotFound,
    "TableAlreadyExistsException": AlreadyExists,
}
_SERVER_ERROR = 500
NO_REGION = (
    "no AWS region: set STREAMER_REGION or AWS_REGION, or name a region in the AWS profile;"
    " a DynamoDB that is not AWS's needs STREAMER_ENDPOINT_URL only"
)
TRANSACTION = "TransactWriteItems"
"""The operation that sends a transaction."""
# Calls to STS and IAM Identity Center, with which botocore fetches credentials within a call to
# DynamoDB. Their error codes have other meanings.
_CREDENTIAL_OPERATIONS = frozenset(
    {
        "AssumeRole",
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "CreateOAuth2Token",
        "CreateToken",
        "GetRoleCredentials",
        "GetSessionToken",
    }
)


class TransactionCancelledError(Exception):
    """DynamoDB cancelled a transaction. `reasons`: one for each part, in order."""

    def __init__(self, reasons: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("a transaction was cancelled")
        self.reasons = reasons


@contextmanager
def translate_errors(operation: str, *, table: str = "", key: str = "") -> Iterator[None]:
    """Raise the store's errors instead of botocore's and aiohttp's, which become their cause.

    Wraps one call of the AWS client. An unknown exception becomes StoreUnavailable, as the call
    may or may not have taken effect. `operation`, `table` and `key` are for the error.
    """
    where: dict[str, Any] = {"operation": operation, "table": table, "key": key}
    try:
        yield
    except ClientError as error:
        raise _from_response(error, where) from error
    except _CREDENTIALS as error:
        raise AccessDenied(f"no usable AWS credentials: {error}", **where) from error
    except NoRegionError as error:
        raise InvalidInput(NO_REGION, **where) from error
    except _CONFIGURATION as error:
        raise InvalidInput(f"AWS settings: {error}", **where) from error
    except _NETWORK as error:
        raise StoreUnavailable(f"DynamoDB did not answer: {_error_text(error)}", **where) from error
    except (StoreError, ConditionFailed):
        raise
    except Exception as error:
        # For example, botocore cannot parse an answer or the output of a credential program.
        message = f"the AWS client failed: {type(error).__name__}: {error}"
        raise StoreUnavailable(message, **where) from error


def error_code(error: StoreError) -> str:
    """Return DynamoDB's error code from which the error was translated, or an empty text."""
    cause = error.__cause__
    return str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else ""


def _from_response(error: ClientError, where: dict[str, Any]) -> Exception:
    answer: dict[str, Any] = dict(error.response)
    code = str(answer.get("Error", {}).get("Code") or "")
    message = str(answer.get("Error", {}).get("Message") or "")
    if error.operation_name in _CREDENTIAL_OPERATIONS:
        error_type = AccessDenied if code in _DENIED else StoreUnavailable
        return error_type(f"no credentials: {error.operation_name}: {code}: {message}", **where)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "ConditionalCheckFailedException":
        return _condition_failed(answer.get("Item"), where)
    if code == "TransactionCanceledException" and error.operation_name == TRANSACTION:
        return _cancelled(answer.get("CancellationReasons"), where)
    if code == "RequestEntityTooLarge" or status == BODY_TOO_LARGE:
        return ItemTooLarge("item", message or "the request is too large", **where)
    # DynamoDB's errors have a code that is not a number. Without one, something else answered.
    if code in _TEMPORARY or status >= _SERVER_ERROR or not code or code.isdigit():
        return StoreUnavailable(f"{code or status}: {message}", **where)
    if code in _DENIED:
        return AccessDenied(f"{code}: {message}", **where)
    return _from_refusal(error.operation_name, code, message, where)


def _from_refusal(operation: str, code: str, message: str, where: dict[str, Any]) -> Exception:
    """Return the error for a call that DynamoDB has refused for another reason."""
    if code in _NO_TABLE or "specified index" in message:
        return TableMissing(f"no such table or index: {message}", **where)
    if code == "ValidationException" and "maximum allowed size" in message:
        return ItemTooLarge("item", message, **where)
    if code == "ValidationException":
        return InvalidInput(message, **where)
    if code == "UnknownOperationException" and operation in _BACKUP_OPERATIONS:
        text = f"the endpoint has no operation {operation}. DynamoDB Local has no backups"
        return InvalidInput(text, **where)
    if code in _ABOUT_BACKUPS:
        return _ABOUT_BACKUPS[code](message, **where)
    # After an unknown error, the call may or may not have taken effect.
    return StoreUnavailable(f"{code}: {message}", **where)


def _condition_failed(old: Any, where: dict[str, Any]) -> Exception:
    if old is None or is_item(old):
        return ConditionFailed(old)
    return StoreUnavailable("the old item of a failed condition is wrong", **where)


def _cancelled(reasons: Any, where: dict[str, Any]) -> Exception:
    if is_reason_list(reasons):
        return TransactionCancelledError(reasons)
    return StoreUnavailable("the reasons of a cancelled transaction are wrong", **where)


def _error_text(error: BaseException) -> str:
    # A network error names the endpoint.
    return without_password(str(error)) or type(error).__name__
