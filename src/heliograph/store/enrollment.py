"""Sign-ups and enrollment tokens of an organization."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from heliograph.domain.enrollment import EnrollmentToken, SignUp
from heliograph.store.database import Database, statement
from heliograph.store.inserts import insert_of
from heliograph.store.records import ENROLLMENT_TOKENS, SIGN_UPS

_SIGN_UP = f"SELECT {SIGN_UPS.names} FROM sign_ups WHERE organization_id = $1 AND project = $2"
_DROP_SIGN_UP = "DELETE FROM sign_ups WHERE organization_id = $1 AND project = $2"
_TOKENS = f"""
SELECT {ENROLLMENT_TOKENS.names} FROM enrollment_tokens WHERE organization_id = $1
ORDER BY created_at DESC, id DESC LIMIT $2
"""


class Enrollment:
    """See ports.store.EnrollmentRepository."""

    def __init__(self, database: Database, organization_id: str) -> None:
        self._database = database
        self._organization_id = organization_id

    async def sign_up(self, project: str) -> SignUp | None:
        """The sign-up that is under way for a project."""
        rows = await self._database.fetch(_SIGN_UP, self._organization_id, project)
        return SIGN_UPS.read(rows[0]) if rows else None

    async def save_sign_up(self, sign_up: SignUp) -> None:
        """Store a sign-up in place of the project's former one."""
        self._see_that_it_is_ours(sign_up.organization_id)
        await self._database.write(
            statement(_DROP_SIGN_UP, self._organization_id, sign_up.project),
            statement(insert_of(SIGN_UPS), *SIGN_UPS.row(sign_up)),
        )

    async def drop_sign_up(self, project: str) -> None:
        """Forget the sign-up of a project."""
        await self._database.write(statement(_DROP_SIGN_UP, self._organization_id, project))

    async def add_token(self, token: EnrollmentToken) -> None:
        """Store an enrollment token."""
        self._see_that_it_is_ours(token.organization_id)
        await self._database.write(statement(insert_of(ENROLLMENT_TOKENS), *ENROLLMENT_TOKENS.row(token)))

    async def tokens(self, limit: int) -> list[EnrollmentToken]:
        """Enrollment tokens, newest first."""
        rows = await self._database.fetch(_TOKENS, self._organization_id, limit)
        return [ENROLLMENT_TOKENS.read(row) for row in rows]

    def _see_that_it_is_ours(self, organization_id: str) -> None:
        if organization_id != self._organization_id:
            raise ValueError("a record of another organization")
