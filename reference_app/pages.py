"""The pages as HTML. Everything that comes from outside is escaped here. Must not: decide anything."""

from __future__ import annotations

from html import escape

__all__ = ["basket_page", "dashboard_page", "login_page", "message_page", "register_page"]


def _page(title: str, body: str, *, stylesheet: str = "") -> str:
    link = f'<link rel="stylesheet" href="/assets/{escape(stylesheet)}">' if stylesheet else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>'
        f"{escape(title)}</title>{link}</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _csrf_field(csrf: str) -> str:
    return f'<input type="hidden" name="csrf_token" value="{escape(csrf)}">'


def _detour_field(detour: str) -> str:
    return f'\n<input type="hidden" name="detour" value="{escape(detour)}">' if detour else ""


def _credentials_form(action: str, button: str, *, csrf: str, email: str, problem: str, detour: str = "") -> str:
    said = f'<p role="alert">{escape(problem)}</p>\n' if problem else ""
    return (
        f'{said}<form method="post" action="{action}">\n{_csrf_field(csrf)}{_detour_field(detour)}\n'
        f'<label>Email <input type="email" name="email" value="{escape(email)}" required></label>\n'
        '<label>Password <input type="password" name="password" minlength="8" required></label>\n'
        f"<button>{escape(button)}</button>\n</form>"
    )


def register_page(*, csrf: str, email: str = "", problem: str = "") -> str:
    form = _credentials_form("/register", "Register", csrf=csrf, email=email, problem=problem)
    return _page("Register", f'{form}\n<p><a href="/login">Log in</a></p>')


def login_page(*, csrf: str, email: str = "", problem: str = "", detour: str = "", stylesheet: str = "") -> str:
    form = _credentials_form("/login", "Log in", csrf=csrf, email=email, problem=problem, detour=detour)
    return _page("Log in", f'{form}\n<p><a href="/register">Register</a></p>', stylesheet=stylesheet)


def dashboard_page(*, csrf: str, email: str) -> str:
    field = _csrf_field(csrf)
    return _page(
        "Dashboard",
        f"<p>You are logged in as <strong>{escape(email)}</strong>.</p>\n"
        f'<form method="post" action="/notes">\n{field}\n'
        '<label>Id <input name="id" required></label>\n<label>Text <input name="text" required></label>\n'
        "<button>Write note</button>\n</form>\n"
        f'<form method="post" action="/counter">\n{field}\n<button>Count</button>\n</form>\n'
        f'<form method="post" action="/logout">\n{field}\n<button>Log out</button>\n</form>',
    )


def basket_page(*, csrf: str, email: str, notice: str) -> str:
    said = f'<p role="status">{escape(notice)}</p>\n' if notice else ""
    return _page(
        "Basket",
        f"{said}<p>The basket of <strong>{escape(email)}</strong>.</p>\n"
        f'<form method="post" action="/basket">\n{_csrf_field(csrf)}\n'
        '<label>Id <input name="id" required></label>\n<label>Text <input name="text" required></label>\n'
        "<button>Put in</button>\n</form>",
    )


def message_page(title: str, message: str) -> str:
    return _page(title, f"<p>{escape(message)}</p>")
