"""What became of calls: who is told, in which order, and what can be cancelled."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fakes import ADMIN, CUSTOMER, EPOCH_MS, OTHER_TENANT, World, device, error_of, result_of
from twisted.internet.defer import Deferred

from rpcbroker.core.calls import CallRequest, CallState
from rpcbroker.core.errors import CallCancelled, InvalidRequest, NotFound, PermissionDenied, Reason
from rpcbroker.core.ledger import MAX_DEPTH, Ledger, Wanted
from rpcbroker.core.model import Authority, KeyAccess, KeyScope, Page, PageLink
from rpcbroker.core.records import Mark

OTHER_ADMIN = replace(ADMIN, tenant_id=OTHER_TENANT)
USER = replace(ADMIN, authority=Authority.CUSTOMER_USER, customer_id=CUSTOMER)
CUSTOMERS = device(200, customer_id=CUSTOMER, type="theirs")


class Books(World):
    """With a ledger, and a second device that is a customer's."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.ledger = Ledger(broker=self.broker, store=self.store)
        if "store" not in more:
            self.add(CUSTOMERS)

    def make(self, number: int, *, persistent: bool = False, to: UUID | None = None, **more: Any) -> Deferred[Any]:
        """A call of this id, a second after the one before."""
        self.clock.advance(1)
        request = CallRequest(
            **{"method": "get", "timeout": 1000.0, "persistent": persistent, "request_id": UUID(int=number)} | more
        )
        waiting = self.call(request, device_id=to)
        if not persistent:
            waiting.addErrback(lambda failure: failure.trap(CallCancelled))
        return waiting

    def page(self, who: Any = ADMIN, *, page_size: int = 100, page: int = 0, **wanted: Any) -> Page[Any]:
        return done(self.ledger.page(who, Wanted(**wanted), page_size=page_size, page=page))

    def listed(self, who: Any = ADMIN, **more: Any) -> list[int]:
        return [told.record.rpc_id.int for told in self.page(who, **more).items]


def done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return result_of(Deferred.fromCoroutine(coroutine))


def refusal(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return error_of(Deferred.fromCoroutine(coroutine))


@pytest.fixture
def books() -> Books:
    return Books()


class TestFinding:
    @pytest.mark.parametrize("persistent", [True, False])
    def test_a_call_that_goes_on_and_the_same_after_its_end(self, books: Books, persistent: bool) -> None:
        books.make(7, persistent=persistent)
        told = done(books.ledger.find(ADMIN, UUID(int=7)))
        assert (told.record.state, told.record.ended_time, told.device_name) == (CallState.QUEUED, None, "device-100")
        books.link(reply=b"1")
        told = done(books.ledger.find(ADMIN, UUID(int=7)))
        assert told.record.state is CallState.SUCCESSFUL
        assert told.record.ended_time == books.now_ms()

    def test_what_memory_has_forgotten_is_in_the_store_if_it_is_persistent(self, books: Books) -> None:
        books.link(reply=b"1")
        books.broker.recorder.most = 1
        for number, persistent in ((1, True), (2, False), (3, False)):
            books.make(number, persistent=persistent)
        told = done(books.ledger.find(ADMIN, UUID(int=1)))
        assert (told.record.state, told.record.moments[-1][1]) == (CallState.SUCCESSFUL, Mark.ANSWERED)
        assert isinstance(refusal(books.ledger.find(ADMIN, UUID(int=2))), NotFound)

    def test_a_waiting_call_is_found_however_many_came_after_it(self, books: Books) -> None:
        books.broker.recorder.most = 1
        books.make(1)
        books.make(2)
        assert done(books.ledger.find(ADMIN, UUID(int=1))).record.state is CallState.QUEUED

    def test_after_a_restart_persistent_ones_are_found(self, books: Books) -> None:
        books.make(1, persistent=True)
        again = Books(store=books.store)
        told = done(again.ledger.find(ADMIN, UUID(int=1)))
        assert (told.record.state, told.device_name) == (CallState.QUEUED, "device-100")

    def test_a_persistent_call_is_not_hidden_by_a_lightweight_one_of_its_id(self, books: Books) -> None:
        books.make(1, persistent=True)
        again = Books(store=books.store)
        again.make(1, to=CUSTOMERS.id, method="other", once=True)
        told = done(again.ledger.find(ADMIN, UUID(int=1)))
        assert (told.record.method, told.device_name) == ("get", "device-100")
        assert isinstance(refusal(again.ledger.find(USER, UUID(int=1))), NotFound)
        assert done(again.ledger.cancel(ADMIN, UUID(int=1)))[1].cancelled
        assert done(again.ledger.kept(ADMIN, UUID(int=1))).record.state is CallState.DELETED

    @pytest.mark.parametrize(
        "who",
        [
            OTHER_ADMIN,
            USER,
            replace(USER, customer_id=None),
            replace(ADMIN, scope=KeyScope(device_types=("theirs",))),
            replace(ADMIN, scope=KeyScope(device_ids=(CUSTOMERS.id,))),
            replace(ADMIN, scope=KeyScope(customer_id=CUSTOMER)),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("persistent", [True, False])
    def test_what_is_foreign_looks_like_what_is_not_there(self, books: Books, who: Any, persistent: bool) -> None:
        books.make(7, persistent=persistent)
        ledger, theirs, nobodys = books.ledger, UUID(int=7), UUID(int=8)
        for operation in (ledger.find, ledger.cancel, ledger.kept, ledger.delete):
            errors = [refusal(operation(who, rpc_id)) for rpc_id in (theirs, nobodys)]
            assert [type(error) for error in errors] == [NotFound, NotFound]
            messages = [
                error.message.replace(str(each), "") for error, each in zip(errors, (theirs, nobodys), strict=True)
            ]
            assert messages[0] == messages[1]
        assert books.listed(who) == []
        assert done(ledger.find(ADMIN, theirs)).record.state is CallState.QUEUED

    def test_calls_of_a_device_that_is_gone_are_for_those_who_may_see_all(self, books: Books) -> None:
        books.make(7)
        result_of(books.store.delete_device(books.device.id))
        books.broker.device_deleted(books.device.id)
        told = done(books.ledger.find(ADMIN, UUID(int=7)))
        assert (told.record.reason, told.device_name) == (Reason.DEVICE_DELETED, None)
        assert books.listed() == [7]
        for who in (USER, replace(ADMIN, scope=KeyScope(device_ids=(books.device.id,)))):
            assert isinstance(refusal(books.ledger.find(who, UUID(int=7))), NotFound)
            assert books.listed(who) == []


class TestListing:
    def test_both_kinds_stand_in_one_list_the_newest_first_each_once(self, books: Books) -> None:
        for number in range(10):
            books.make(number, persistent=number % 3 == 0)
        assert books.listed() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
        pages = [books.page(page_size=4, page=page) for page in range(4)]
        assert [[told.record.rpc_id.int for told in page.items] for page in pages] == [
            [9, 8, 7, 6],
            [5, 4, 3, 2],
            [1, 0],
            [],
        ]
        assert {page.total for page in pages} == {10}

    def test_what_is_asked_for_holds_of_both_kinds(self, books: Books) -> None:
        for number in range(4):
            books.make(number, persistent=number % 2 == 0, method=f"method-{number // 2}")
        for number in (4, 5):
            books.make(number, persistent=number == 4, to=CUSTOMERS.id)
        assert books.listed(method="method-1") == [3, 2]
        assert books.listed(since=EPOCH_MS + 4000) == [5, 4, 3]
        assert books.listed(device_id=CUSTOMERS.id) == [5, 4]
        assert books.listed(USER) == [5, 4]
        assert books.listed(USER, device_id=CUSTOMERS.id) == [5, 4]
        assert books.listed(replace(ADMIN, scope=KeyScope(device_types=("theirs",)))) == [5, 4]
        assert books.listed(OTHER_ADMIN) == []
        books.link(reply=b"1")
        assert books.listed(state=CallState.SUCCESSFUL) == [3, 2, 1, 0]
        assert books.listed(state=CallState.SUCCESSFUL, device_id=CUSTOMERS.id) == []

    def test_devices_are_named_also_those_that_memory_does_not_know(self, books: Books) -> None:
        books.make(1, persistent=True)
        books.make(2, persistent=True, to=CUSTOMERS.id)
        again = Books(store=books.store)
        again.session()
        assert [told.device_name for told in again.page().items] == ["device-200", "device-100"]

    def test_a_foreign_device_is_not_found(self, books: Books) -> None:
        for who, device_id in ((USER, books.device.id), (ADMIN, UUID(int=5)), (OTHER_ADMIN, CUSTOMERS.id)):
            error = refusal(books.ledger.page(who, Wanted(device_id=device_id), page_size=1, page=0))
            assert error.message == "Device with requested id wasn't found!"

    def test_it_has_a_depth(self, books: Books) -> None:
        assert books.page(page_size=100, page=MAX_DEPTH // 100 - 1).items == ()
        error = refusal(books.ledger.page(ADMIN, Wanted(), page_size=100, page=MAX_DEPTH // 100))
        assert isinstance(error, InvalidRequest)


class TestCancelling:
    @pytest.mark.parametrize("persistent", [True, False])
    def test_one_that_was_not_sent_never_is(self, books: Books, persistent: bool) -> None:
        waiting = books.make(7, persistent=persistent)
        told, cancellation = done(books.ledger.cancel(ADMIN, UUID(int=7)))
        assert told.record.method == "get"
        assert (cancellation.cancelled, cancellation.delivered_before, cancellation.device_told) == (True, False, False)
        assert waiting.called
        assert books.link().calls == []
        record = done(books.ledger.find(ADMIN, UUID(int=7))).record
        assert (record.state, record.reason) == (CallState.DELETED, Reason.CANCELLED)
        assert (Mark.CANCELLED, "by admin@example.org") in [moment[1:] for moment in record.moments]

    @pytest.mark.parametrize("persistent", [True, False])
    def test_one_that_the_device_has_is_taken_back_if_it_listens(self, books: Books, persistent: bool) -> None:
        books.device = device(300, additional_info={"rpcCancel": True})
        books.add(books.device)
        link = books.link()
        books.make(7, persistent=persistent)
        _, cancellation = done(books.ledger.cancel(ADMIN, UUID(int=7)))
        assert (cancellation.cancelled, cancellation.delivered_before, cancellation.device_told) == (True, True, True)
        assert [call.rpc_id.int for call in link.cancelled] == [7]

    @pytest.mark.parametrize("persistent", [True, False])
    def test_one_that_has_ended_stays_as_it_is(self, books: Books, persistent: bool) -> None:
        books.link(reply=b"1")
        books.make(7, persistent=persistent)
        _, cancellation = done(books.ledger.cancel(ADMIN, UUID(int=7)))
        assert (cancellation.cancelled, cancellation.delivered_before, cancellation.device_told) == (False, True, False)
        assert done(books.ledger.find(ADMIN, UUID(int=7))).record.state is CallState.SUCCESSFUL

    def test_a_key_cancels_what_it_could_have_called(self, books: Books) -> None:
        books.make(7)
        for scope in (
            KeyScope(access=KeyAccess.READ),
            KeyScope(access=KeyAccess.CALL, methods=("set*",)),
            KeyScope(access=KeyAccess.CALL, twoway=False),
        ):
            assert isinstance(refusal(books.ledger.cancel(replace(ADMIN, scope=scope), UUID(int=7))), PermissionDenied)
        key = replace(ADMIN, scope=KeyScope(access=KeyAccess.CALL, methods=("g*",)), key_name="of the robot")
        told, cancellation = done(books.ledger.cancel(key, UUID(int=7)))
        assert cancellation.cancelled
        assert (Mark.CANCELLED, "by of the robot") in [moment[1:] for moment in told.record.moments]

    def test_of_a_device_that_is_gone_there_is_nothing_to_cancel(self, books: Books) -> None:
        books.make(7)
        result_of(books.store.delete_device(books.device.id))
        books.broker.device_deleted(books.device.id)
        assert not done(books.ledger.cancel(ADMIN, UUID(int=7)))[1].cancelled


class TestPersistentOnes:
    def test_deleting_ends_the_call_for_the_device_too(self, books: Books) -> None:
        books.make(7, persistent=True)
        kept = done(books.ledger.delete(ADMIN, UUID(int=7)))
        assert kept.call.rpc_id.int == 7
        assert books.broker.persistent.waiting_count == 0
        for operation in (books.ledger.kept, books.ledger.delete):
            assert isinstance(refusal(operation(ADMIN, UUID(int=7))), NotFound)
        books.make(7, persistent=True, method="another")
        assert done(books.ledger.kept(ADMIN, UUID(int=7))).call.method == "another"

    def test_they_are_listed_by_device(self, books: Books) -> None:
        books.make(1, persistent=True)
        books.make(2)
        books.make(3, persistent=True, to=CUSTOMERS.id)
        link = PageLink(page_size=10)
        for who, device_id, found in ((ADMIN, books.device.id, [1]), (USER, CUSTOMERS.id, [3])):
            page = done(books.ledger.of_device(who, device_id, link, state=None))
            assert [kept.call.rpc_id.int for kept in page.items] == found
        error = refusal(books.ledger.of_device(USER, books.device.id, link, state=None))
        assert isinstance(error, NotFound)
