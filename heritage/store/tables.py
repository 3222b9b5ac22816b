"""The tables of the survey database; `heritage/migrations` brings older ones up to these."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# A number in an old link must not lead to another survey.
NEVER_REUSED = {"sqlite_autoincrement": True}


class Base(DeclarativeBase):
    """What all tables share: constraint names that a migration can refer to."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _owned_by(column: str) -> Any:
    return ForeignKey(column, ondelete="CASCADE")


class SurveyRow(Base):
    """A photo set triaged together. Times are UTC."""

    __tablename__ = "surveys"
    __table_args__ = NEVER_REUSED
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    site: Mapped[str] = mapped_column(Text, default="")
    visited_on: Mapped[date | None] = mapped_column(Date)
    created_at: Mapped[datetime] = mapped_column(DateTime)
    urgent_percent: Mapped[float] = mapped_column(Float)
    high_percent: Mapped[float] = mapped_column(Float)
    watch_percent: Mapped[float] = mapped_column(Float)
    edits: Mapped[int] = mapped_column(default=0)


class PhotoRow(Base):
    """One file of a survey, and what its bytes tell. `suffix` is empty where none are kept."""

    __tablename__ = "photos"
    __table_args__ = (UniqueConstraint("survey_id", "position"), NEVER_REUSED)
    id: Mapped[int] = mapped_column(primary_key=True)
    survey_id: Mapped[int] = mapped_column(_owned_by("surveys.id"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(Text)
    building: Mapped[str] = mapped_column(Text, default="", index=True)
    source_path: Mapped[str] = mapped_column(Text, default="")
    source_member: Mapped[int | None]
    source_error: Mapped[str] = mapped_column(Text, default="")
    source_trusted: Mapped[bool] = mapped_column(default=False)
    sha256: Mapped[str] = mapped_column(String(64), default="", index=True)
    suffix: Mapped[str] = mapped_column(String(8), default="")
    width: Mapped[int | None]
    height: Mapped[int | None]
    taken_at: Mapped[str | None] = mapped_column(String(32))
    camera: Mapped[str | None] = mapped_column(Text)
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    perceptual_hash: Mapped[str] = mapped_column(String(16), default="")


class RunRow(Base):
    """One checkpoint let loose on a survey."""

    __tablename__ = "runs"
    __table_args__ = NEVER_REUSED
    id: Mapped[int] = mapped_column(primary_key=True)
    survey_id: Mapped[int] = mapped_column(_owned_by("surveys.id"), index=True)
    checkpoint: Mapped[str] = mapped_column(Text)
    card: Mapped[dict[str, Any]] = mapped_column(JSON)
    detail: Mapped[bool] = mapped_column(default=False, server_default=false())
    status: Mapped[str] = mapped_column(String(16), index=True)
    error: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(DateTime)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    worker: Mapped[str] = mapped_column(Text, default="")
    heartbeat_at: Mapped[datetime | None] = mapped_column(DateTime)


class InspectionRow(Base):
    """What a run says of a photo; an error instead where it could not be read."""

    __tablename__ = "inspections"
    run_id: Mapped[int] = mapped_column(_owned_by("runs.id"), primary_key=True)
    photo_id: Mapped[int] = mapped_column(_owned_by("photos.id"), primary_key=True, index=True)
    damage_percent: Mapped[float | None]
    affected_percent: Mapped[float | None]
    unsure: Mapped[bool] = mapped_column(default=False)
    evidence: Mapped[bool] = mapped_column(default=False)
    regions: Mapped[list[Any]] = mapped_column(JSON, default=list)
    warnings: Mapped[list[Any]] = mapped_column(JSON, default=list)
    heat: Mapped[bytes | None] = mapped_column(LargeBinary)
    method: Mapped[str] = mapped_column(String(32), default="", server_default="")
    error: Mapped[str] = mapped_column(Text, default="")


class VerdictRow(Base):
    """What somebody said of a photo, and when; the latest counts, the earlier ones stay."""

    __tablename__ = "verdicts"
    __table_args__ = (Index("ix_verdicts_photo_id_id", "photo_id", "id"), NEVER_REUSED)
    id: Mapped[int] = mapped_column(primary_key=True)
    photo_id: Mapped[int] = mapped_column(_owned_by("photos.id"))
    verdict: Mapped[str] = mapped_column(String(8))
    note: Mapped[str] = mapped_column(Text, default="")
    given_by: Mapped[str] = mapped_column(Text, default="")
    given_at: Mapped[datetime] = mapped_column(DateTime)
