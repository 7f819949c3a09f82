"""The lab's faults for a provider that speaks HTTP/2: records each request, and says what shall happen to it."""

from collections.abc import Callable
from urllib.parse import unquote

import msgspec

from heliograph_lab.faults import ERROR_CODES, Action
from heliograph_lab.http2.model import Answer, Cut, Fault, GoAway, Outcome, Request, Reset, Silence
from heliograph_lab.kernel import Kernel

Refuse = Callable[[Request, int, str | None], Answer]  # status and reason (None: the usual one) in the provider's shape


class Rules:
    """A script of the server, from the rules of the control API."""

    def __init__(self, kernel: Kernel, service: str, refuse: Refuse) -> None:
        self._kernel = kernel
        self._service = service
        self._refuse = refuse

    def __call__(self, request: Request) -> Fault | None:
        """See `Script`."""
        raw, _, query = request.path.partition("?")
        path = unquote(raw)
        self._kernel.requests.record(
            self._service, method=request.method, path=path, query=query, headers=request.headers, body=request.body
        )
        action = self._kernel.faults.match(self._service, request.method, path, request.body)
        if action is None:
            return None
        return Fault(self._outcome(request, action), action.cut == "after", (action.delay_ms or 0) / 1000)

    def _outcome(self, request: Request, action: Action) -> Outcome | None:
        if action.status is not None:
            return self._answer(request, action, action.status)
        if action.cut is not None:
            return Cut()
        if action.reset is not None:
            return Reset(ERROR_CODES[action.reset])
        if action.silence:
            return Silence()
        if action.go_away is not None:
            return GoAway(code=ERROR_CODES[action.go_away.code], debug=action.go_away.debug.encode())
        return None

    def _answer(self, request: Request, action: Action, status: int) -> Answer:
        answer = self._refuse(request, status, action.reason)
        if action.body is not None:
            answer = msgspec.structs.replace(answer, body=action.body.encode())
        if action.retry_after is not None:
            headers = (*answer.headers, ("retry-after", str(action.retry_after)))
            answer = msgspec.structs.replace(answer, headers=headers)
        return answer
